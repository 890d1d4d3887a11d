"""The loss of image-text models: symmetric cross entropy over the pairs of a batch (Radford et al. 2021, figure 3).

    logits = s <i, t>,      loss = (CE over rows + CE over columns) / 2

A batch of few captions holds equal ones: an image is then of each of them, and the target is spread evenly over those
(UniCL: Yang et al. 2022, eq. 3-5). With all captions different that is CLIP's own loss.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clip_loss(images: Tensor, texts: Tensor, scale: Tensor | float, same: Tensor | None = None) -> Tensor:
    """The mean loss of B pairs, a scalar.

    Args:
        images, texts: (B, d) of unit length, row by row a pair.
        scale: s > 0, the inverse of the temperature.
        same: (B, B) bool, symmetric, whether two rows have the same caption; None: each only with itself.
    """
    logits = scale * images @ texts.T
    if same is None:
        same = torch.eye(len(images), dtype=torch.bool, device=images.device)
    target = same.to(logits.dtype) / same.sum(1, keepdim=True)
    rows = -(target * logits.log_softmax(dim=1)).sum(1).mean()
    columns = -(target.T * logits.log_softmax(dim=0)).sum(0).mean()
    return (rows + columns) / 2
