"""What is left of an image of which no edit was asked, once and ten times over; and of one edited there and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfdiff.data.source import Source
from cfdiff.data.values import as_saved, mean_change, to_model
from cfdiff.edit.cast import probabilities
from cfdiff.edit.editor import Editor
from cfdiff.engine import NoiseSource
from peers.kinds import Peer
from peers.networks import Networks

CYCLES = 10


def null_edits(
    peer: Peer | None, editor: Editor, net: Networks, source: Source, scales: Sequence[float]
) -> dict[str, Any]:
    """Figures of the images of `source`, all of one class; `peer` None is cfdiff; `scales` are those
    of the directions, by the class that is left.

    Errors of a null edit are of the float image, in levels of 255, with nothing rounded between cycles; beside them the
    share of images whose bytes are the input's.
    """
    label, images = int(source.labels[0]), source.read(np.arange(len(source)))
    ids, x = [str(i) for i in source.ids], to_model(images)

    def null(y: Tensor) -> Tensor:
        if peer is None:
            path = editor.encode(y.float(), ids, editor.s.depth)
            return editor.walk(path, ids, None).z
        return peer.edit(net, y, torch.full((len(y),), 1 - label), [0.0], NoiseSource(0, ids))[0]

    def translated(before: np.ndarray, target: int) -> np.ndarray:
        if peer is None:
            return editor.edit(before, [f"{target}/{i}" for i in ids], target).counterfactual
        y = to_model(before)
        made = peer.edit(net, y, torch.full((len(y),), target), [scales[1 - target]], NoiseSource(target, ids))[0]
        return as_saved(before, y, made.float())[0]

    figures: dict[str, Any] = {"n": len(images)}
    y: Tensor = x
    with torch.no_grad():
        for cycle in range(1, CYCLES + 1):
            y = null(y)
            if cycle in (1, CYCLES):
                error = (y - x).abs() * 127.5
                same = (as_saved(images, x, y.float())[0] == images).all(axis=(1, 2, 3))
                name = "null" if cycle == 1 else "ten_cycles"
                figures[f"{name}_mean_levels"], figures[f"{name}_max_levels"] = float(error.mean()), float(error.max())
                figures[f"{name}_bytes_same"] = float(same.mean())
        there = translated(images, 1 - label)
        back = translated(there, label)
    judge = net.cast.judge
    assert judge is not None
    p_there, p_back = (probabilities(judge, to_model(one)).numpy() for one in (there, back))
    figures["round_trip_mean_abs_difference"] = float(mean_change(images, back).mean())
    figures["round_trip_flipped_both"] = float(((p_there[:, 1 - label] > 0.5) & (p_back[:, label] > 0.5)).mean())
    return figures
