"""The anchored edit: encode the image, and nudge it along the encoded path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cfdiff.edit.editor import Editor
from cfdiff.edit.ladder import Rung, ladder, tau_of
from cfdiff.edit.settings import EditSettings
from cfdiff.edit.strategy import Attempt, Batch
from cfdiff.engine import NoiseSchedule, Trajectory


class Anchored:
    """Tries on one batch. A path is encoded once for all rungs of its depth, for the images that still climb then."""

    finds = False

    def __init__(self, editor: Editor, batch: Batch) -> None:
        self.editor, self.batch = editor, batch
        self.rungs: Sequence[Rung] = editor.rungs
        self.saliency: Tensor | None = None
        self.depth: float | None = None
        self.path: Trajectory | None = None
        self.rows = np.arange(0)

    @staticmethod
    def check(schedule: NoiseSchedule, s: EditSettings) -> None:
        """UserError for a rung whose depth has too few levels for the steps."""
        for rung in ladder(s):
            tau_of(schedule, s, rung.depth)

    def attempt(self, rows: np.ndarray, rung: Rung, mask: Tensor | None = None) -> Attempt:
        """Edit some of the batch at one rung; see `strategy.Strategy`."""
        names = [self.batch.ids[i] for i in rows.tolist()]
        target = self.batch.target[torch.from_numpy(rows)]
        calls = 0
        if self.path is None or rung.depth != self.depth:
            self.path = self.editor.encode(self.batch.z[torch.from_numpy(rows)], names, rung.depth, 1 - target)
            self.rows, self.depth = rows, rung.depth
            calls += self.path.calls
        here = self.path.select(np.searchsorted(self.rows, rows).tolist())
        found = self.editor.decode(here, names, target, rung, mask, self.editor.early(self.batch, rows))
        return replace(found, network_calls=found.network_calls + calls)
