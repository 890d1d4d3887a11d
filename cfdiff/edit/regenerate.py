"""The regenerating edit: find the place by guides and denoiser, and draw it anew as the other class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cfdiff.edit.editor import Editor
from cfdiff.edit.ladder import Rung, redraws
from cfdiff.edit.settings import EditSettings
from cfdiff.edit.strategy import Attempt, Batch, Counter
from cfdiff.engine import NoiseSchedule, NoiseSource, make_tau
from cfdiff.engine.regenerate import regenerate
from cfdiff.engine.saliency import clean_saliency, contrast, joined, noisy_saliency, place, place_holding
from cfdiff.registry import GUIDES

LOOKS = (0.1, 0.2, 0.3, 0.5)
"""Depths at which the guide is asked where the class stands, as far as it is above chance there."""

CONTRASTED = (0.3, 0.45, 0.6)
"""Depths at which the denoiser is asked: below it looks at grain; at .75 T too it found damage of roads worse."""
DRAWS = 2
PART = 2.0
"""How much the denoiser counts beside all guides."""


class Regenerate:
    """Tries on one batch: the place is found once, and every rung draws it anew from other noise."""

    finds = True

    def __init__(self, editor: Editor, batch: Batch) -> None:
        self.editor, self.batch = editor, batch
        self.rungs: Sequence[Rung] = redraws(editor.s, verified=editor.cast.verifier is not None)
        self.saliency: Tensor | None = None

    @staticmethod
    def check(schedule: NoiseSchedule, s: EditSettings) -> None:
        """UserError where the depth has too few levels for the steps."""
        make_tau(schedule, s.redraw_depth, s.redraw_steps, "uniform")

    def attempt(self, rows: np.ndarray, rung: Rung, mask: Tensor | None = None) -> Attempt:
        """Edit some of the batch at one rung; see `strategy.Strategy`. A `mask` of the data is the place; in that of an
        object the place is looked for.

        Where no guidance is asked for nothing is drawn: no other class is wanted, so the source is the answer.
        """
        editor, batch, here = self.editor, self.batch, torch.from_numpy(rows)
        cast, s = editor.cast, editor.s
        if s.unguided:
            count = Counter(batch.z[here])
            return Attempt(batch.z[here], count.guided, count.cost(0), torch.zeros_like(batch.x[here, :1]))
        looked = self._look(here)
        pixels, inside = self._place(here, rung, mask)
        names = [batch.ids[i] for i in rows.tolist()]
        target = batch.target[here]
        count = Counter(batch.z[here])
        # The place is the other class's from its first noise on, so that is what a conditional denoiser is told.
        told = target if cast.denoise.conditional else None
        guides = [GUIDES[name].make(cast, s.model_copy(update={"base": "none"})) for name in s.guide_names]
        z = regenerate(
            cast.schedule,
            editor.denoiser(told),
            batch.z[here],
            make_tau(cast.schedule, rung.depth, s.redraw_steps, "uniform"),
            inside,
            solver=editor.solver(),
            noise=NoiseSource(s.seed, [f"regenerate/{rung.draw}/{name}" for name in names]),
            guidance=editor.guidance(target, rung, guides),
            resample=s.redraw_times,
            clip=cast.space.discrete,
            callback=count.step,
        )
        return Attempt(z, count.guided, count.cost(editor.calls_a_gradient) + looked, pixels)

    def _look(self, here: Tensor) -> int:
        """Find where the class asked for is missing, once: the first rung has all images that come here.

        Returns:
            Network calls of each image.
        """
        if self.saliency is not None:
            return 0
        self.saliency = find(self.editor, self.batch)[:, 0]
        s = self.editor.s
        if s.redraw_find == "guides" or (s.mask == "data" and not self.editor.looks):  # whose place nobody looks for
            return 0
        found = find_by_denoiser(self.editor, self.batch, here)
        self.saliency[here] = joined([self.saliency[here, None], PART * found], blur=1)[:, 0]
        return 2 * DRAWS * len(CONTRASTED)

    def _place(self, here: Tensor, rung: Rung, mask: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """What is drawn anew of the images `here` (n,): its pixels (n, 1, H, W), None where the data say it, and that
        of z (n, 1, h, w)."""
        s = self.editor.s
        assert self.saliency is not None
        if mask is not None and s.mask == "data":
            return None, mask
        seen = self.saliency[here, None]
        if mask is not None:
            seen = seen * F.interpolate(mask, size=seen.shape[2:])
        if rung.mass is None:
            pixels = place(seen, rung.share, s.redraw_grow)
        else:
            pixels = place_holding(seen, rung.mass, s.redraw_grow)
        inside = self.editor.cast.space.mask(pixels)
        return pixels, inside if mask is None else inside * mask


def find(editor: Editor, batch: Batch) -> Tensor:
    """(B, 1, H, W) in [0, 1], where the class asked for is missing, to the guides that steer; no network is called."""
    cast, s = editor.cast, editor.s
    maps = []
    if cast.guide is not None and cast.guide_max_level != 0:
        most = cast.guide_max_level or cast.schedule.T
        levels = [level for level in map(cast.schedule.level_of, LOOKS) if level <= most] or [most]
        noise = NoiseSource(s.seed, [f"saliency/{name}" for name in batch.ids])
        seen = noisy_saliency(cast.schedule, cast.guide_log_prob, batch.z, batch.target, levels, noise)
        maps.append(F.interpolate(seen, size=batch.x.shape[2:], mode="bilinear"))
    if cast.checker is not None:
        maps.append(clean_saliency(cast.checker_log_prob, batch.x, batch.target))
    return joined(maps)


def find_by_denoiser(editor: Editor, batch: Batch, here: Tensor) -> Tensor:
    """(n, 1, H, W) in [0, 1], where the class asked for is missing in the images `here` (n,), to the denoiser."""
    cast, z = editor.cast, batch.z[here]
    noise = NoiseSource(editor.s.seed, [f"contrast/{batch.ids[i]}" for i in here.tolist()])
    levels = [cast.schedule.level_of(depth) for depth in CONTRASTED]
    found = contrast(cast.schedule, cast.denoise, z, batch.target[here], levels, noise, DRAWS)
    return F.interpolate(found, size=batch.x.shape[2:], mode="bilinear")
