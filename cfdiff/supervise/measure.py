"""How good a classifier is on images of groups that it did not learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cfdiff.data.open import open_told
from cfdiff.data.source import Source
from cfdiff.data.splitting import TEST, own_split
from cfdiff.data.values import to_model
from cfdiff.errors import UserError
from cfdiff.metrics.intervals import Groups, bootstrap_rows, over, share_interval
from cfdiff.models.checkpoint import load_model
from cfdiff.supervise.result import Measured, Recall
from cfdiff.supervise.settings import SuperviseSettings

BATCH = 256


def open_test(s: SuperviseSettings, train: Source) -> Source | None:
    """The images to measure on: of --test-split, else of the data's own test split; None where there is none.

    Raises:
        UserError: there is no such split, or it shares a group or an image with those that are trained on.
    """
    whole = open_told(s)
    split = s.test_split or own_split(whole, TEST)
    if split is None:
        return None
    test = whole.narrow(split)
    for what, mine, theirs in (("image", test.ids, train.ids), ("group", test.groups, train.groups)):
        shared = set() if mine is None or theirs is None else set(map(str, mine)) & set(map(str, theirs))
        if shared:
            raise UserError(
                f"The {what} {min(shared)!r} is in the split {split!r} and among those that are trained on, so the "
                "figures would flatter: name another --test-split, or divide the data (cfdiff data split)."
            )
    return test


def measure(model: Path, test: Source, device: torch.device) -> Measured:
    """Balanced accuracy and the recall of each class on `test`, with 95 % intervals over its groups."""
    right = verdicts(model, test, device) == test.labels
    labels, groups = test.labels, test.groups
    here = [k for k in (0, 1) if (labels == k).any()]

    def balanced(rows: np.ndarray) -> float:
        there = [k for k in here if (labels[rows] == k).any()]
        return float(np.mean([right[rows][labels[rows] == k].mean() for k in there]))

    rows = np.arange(len(test))
    interval = bootstrap_rows(len(test), groups, balanced, within=(0, 1))
    recalls = {test.classes[k]: _recall(right[labels == k], None if groups is None else groups[labels == k])
               for k in here}  # fmt: skip
    return Measured(len(test), over(groups), balanced(rows), interval, recalls)


@torch.no_grad()
def verdicts(model: Path, source: Source, device: torch.device) -> np.ndarray:
    """(N,) int64, the class (0 or 1) that a clean classifier's file gives each image of a source."""
    net = load_model(model, "clean-classifier", device).net
    parts = [range(start, min(start + BATCH, len(source))) for start in range(0, len(source), BATCH)]
    found = [net(to_model(source.read(part)).to(device)).argmax(1).cpu() for part in parts]
    return torch.cat(found).numpy()


def _recall(right: np.ndarray, groups: Groups) -> Recall:
    return Recall(len(right), float(right.mean()), share_interval(right, groups))
