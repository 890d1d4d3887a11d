"""What a classifier that was trained on tiles says of an image that is larger: what it says of the most positive tile.

An image is positive where one of its tiles is, and negative where all are (the assumption of multiple-instance
learning, Dietterich et al. 1997), so p(positive) of an image is the highest of its tiles'.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cfdiff.engine.tiles import Tiles

BATCH = 64
"""Tiles that pass through the network at once."""


def most_positive(net: Callable[[Tensor], Tensor], x: Tensor, tiles: Tiles) -> Tensor:
    """(B, K) logits of images (B, C, H, W): the row of the tile with the highest p(positive), class 1.

    An image that is no larger than a tile is asked as it is, in its batch.
    """
    grid = tiles.grid(x.shape[2], x.shape[3])
    if len(grid) == 1:
        return net(x)
    said = []
    for image in x:
        cut = torch.stack([image[:, rows, columns] for rows, columns in grid.boxes])
        logits = torch.cat([net(some) for some in cut.split(BATCH)]).float()
        said.append(logits[F.log_softmax(logits, dim=1)[:, 1].argmax()])
    return torch.stack(said)
