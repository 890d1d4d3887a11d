"""Edit a batch of images to a target class: try, check what would be saved, climb the ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from cfdiff.data.ground import off_ground
from cfdiff.data.values import as_saved, to_model
from cfdiff.edit.acceptance import Acceptance
from cfdiff.edit.cast import Cast
from cfdiff.edit.control import NO_CONTROL, Lock
from cfdiff.edit.kept import Edits, Kept, Tried
from cfdiff.edit.ladder import Rung, ladder, tau_of
from cfdiff.edit.realism import Realism
from cfdiff.edit.settings import EditSettings
from cfdiff.edit.strategy import Attempt, Batch, Counter, Strategy
from cfdiff.edit.trim import changed_region
from cfdiff.engine import (
    Denoise,
    Early,
    Guidance,
    Guide,
    NoiseSource,
    Solver,
    Trajectory,
    decode,
    encode_ddim,
    encode_fixed_point,
    encode_noise,
)
from cfdiff.engine.joint import chunked
from cfdiff.registry import EDITS, GUIDES, SOLVERS

EARLY_DEPTH = 0.3
"""The greatest depth at which a walk may end early. Where it might at any, circuit boards kept grey ghosts of defects
that were gone, and radiographs a raster (docs/quality.md, "What accepts")."""


class Editor:
    """Edits images with one cast and one set of settings; holds no state between batches."""

    def __init__(self, cast: Cast, s: EditSettings) -> None:
        self.cast, self.s = cast, s
        self.every = s.edit == "auto"
        self.ways = list(EDITS) if self.every else list(dict.fromkeys(s.edit.split("+")))
        self.rungs = ladder(s, verified=cast.verifier is not None)
        self.acceptance = Acceptance(cast, s)
        self.calls_a_gradient = sum(GUIDES[name].calls_a_gradient(s) for name in s.guide_names)
        self.tau(s.depth)  # an impossible depth or step count is said before any computation
        for way in self.ways:
            EDITS[way].check(cast.schedule, s)
        for target in (0, 1) if s.towards else ():
            self.towards(target)  # what they cannot be is said as early

    def towards(self, target: int) -> Self:
        """The editor to the class `target`: another where its settings are otherwise."""
        return type(self)(self.cast, self.s.for_target(target)) if self.s.towards else self

    @property
    def looks(self) -> bool:
        """Whether every edit comes with a map of where the class stands: a way looks for it, and no image is left out
        because a way before it was enough."""
        finds = any(getattr(EDITS[way], "finds", False) for way in self.ways)
        return finds and not self.s.unguided and (self.every or len(self.ways) == 1)

    def tau(self, depth: float) -> list[int]:
        """The levels to encode at for `depth`: deeper rungs keep the number of steps."""
        return tau_of(self.cast.schedule, self.s, depth)

    def guides(self) -> list[Guide]:
        """The guides that the settings name; their gradients add."""
        return [GUIDES[name].make(self.cast, self.s) for name in self.s.guide_names]

    def denoiser(self, told: Tensor | None) -> Denoise:
        """The unguided eps(x, level) of images whose classes `told` (n,) it is told."""
        ask = self.cast.denoise
        return ask if told is None else lambda x, level: ask(x, level, told)

    def encode(self, z: Tensor, ids: Sequence[str], depth: float, source: Tensor | None = None) -> Trajectory:
        """The encoded path of z (B, c, h, w) up to `depth`; where the setting `base` says so, told their class `source`
        (B,) int64, on the way down too."""
        schedule, tau = self.cast.schedule, self.tau(depth)
        told = source if self.s.base == "source" and self.cast.denoise.conditional else None
        denoise = self.denoiser(told)
        if self.s.inversion == "ddim":
            path = encode_ddim(schedule, denoise, z, tau)
        elif self.s.inversion == "fixed-point":
            path = encode_fixed_point(schedule, denoise, z, tau)
        else:
            path = encode_noise(schedule, denoise, z, tau, NoiseSource(self.s.seed, [f"encode/{i}" for i in ids]))
        return replace(path, told=told).every(self.s.encode_per_step)

    def decode(
        self,
        path: Trajectory,
        ids: Sequence[str],
        target: Tensor,
        rung: Rung,
        mask: Tensor | None = None,
        early: Early | None = None,
    ) -> Attempt:
        """Walk `path`, which is encoded to the rung's depth, down under the guidance of the settings."""
        return self.walk(path, ids, self.guidance(target, rung, self.guides()), mask, early=early)

    def early(self, batch: Batch, rows: np.ndarray) -> Early | None:
        """Images `rows` (n,) of a batch end their walk where they would be accepted as they stand, if the settings say
        so, somebody accepts and they are near enough to being images."""
        if not (self.s.early and self.acceptance.there):
            return None

        def enough(some: Tensor, z: Tensor) -> Tensor:
            here = rows[some.cpu().numpy()]
            at = torch.from_numpy(here).to(z.device)
            x = batch.x[at]
            edited = self.cast.space.saved(x, batch.z[at], z, batch.drawn[at])
            saved, finite = as_saved(batch.images[here], x, edited)
            names, target = [batch.ids[i] for i in here.tolist()], int(batch.target[0])
            accepted = finite & (self.acceptance.asked(saved, names, target)[1] >= self.acceptance.least)
            return torch.from_numpy(accepted).to(z.device)

        return Early(self.acceptance.least, enough, self.cast.schedule.level_of(EARLY_DEPTH))

    def guidance(self, target: Tensor, rung: Rung, guides: Sequence[Guide]) -> Guidance | None:
        """Towards target (n,) int64 at a rung, in the closed loop if the settings say so; None without guidance."""
        if not self.s.scale:
            return None
        return Guidance(
            self.cast.schedule,
            guides,
            rung.scale,
            rung.ratio,
            target,
            checker=self.cast.clean_log_prob if self.s.closed_loop else None,
            confidence=self.s.target if rung.confidence is None else rung.confidence,
            dense=self._dense,
        )

    @property
    def _dense(self) -> bool | None:
        """Whether models must be asked of all images at once: there is a control image for each of them."""
        return None if self.s.lock[0] == NO_CONTROL else True

    def walk(
        self,
        path: Trajectory,
        ids: Sequence[str],
        guidance: Guidance | None,
        mask: Tensor | None = None,
        chunk: int | None = None,
        early: Early | None = None,
    ) -> Attempt:
        """As `decode`, with any guidance, told what `path` was; the network gets `chunk` images a call, all if None."""
        cast, s = self.cast, self.s
        count = Counter(path.x[0])
        z = decode(
            cast.schedule,
            cast.denoise if chunk is None else chunked(cast.denoise, chunk),
            path,
            solver=self.solver(),
            guidance=guidance,
            anchored=s.anchored,
            mask=mask,
            clip=s.clip,
            noise=NoiseSource(s.seed, ids),
            early=early,
            dense=self._dense,
            callback=count.step,
        )
        return Attempt(z, count.guided, count.cost(self.calls_a_gradient))

    def reconstruct(
        self, images: np.ndarray, ids: Sequence[str], labels: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The factual: encode and decode without guidance, as it would be saved; and which are finite, (B,) bool.

        `labels` (B,) are the images' classes, for the setting `base`; None tells none.
        """
        x = to_model(images).to(self.cast.device)
        z = self.cast.space.encode(x)
        source = None if labels is None else torch.from_numpy(labels.astype(np.int64)).to(self.cast.device)
        back = self.walk(self.encode(z, ids, self.s.depth, source), ids, None)
        return as_saved(images, x, self.cast.space.saved(x, z, back.z))

    def edit(
        self,
        images: np.ndarray,
        ids: Sequence[str],
        target: int,
        masks: np.ndarray | None = None,
        within: np.ndarray | None = None,
    ) -> Edits:
        """Edit (B, H, W, C) stored images to class `target`; only those that do not flip climb the ladder.

        A try is accepted when the verifier (the checker where there is none), on the image as saved, gives the target
        at least `accept`, a margin above 1/2 because the judge is another model. Several ways of editing follow one
        another, each for what those before did not get accepted, or all for every image ("auto"); of what is accepted
        the smallest change is kept. Where nothing is accepted, the smallest change that flips at all is kept, and where
        none flips, the try that came closest; a try after the first that is no image any more (`realism`) is worse than
        any that is. What flips and is not accepted climbs no further after the retries of `settle`, and comes to no
        other way. What flips is trimmed to the place that it takes (`trim`), and of places that were drawn anew the
        needless ones are left out.

        Args:
            masks: (B, H, W) bool, the data's, for the settings mask "data" and control "mask".
            within: (B, H, W) bool, where the images may change, of whoever knows more of them than they show; `where`
                says it of None.
        """
        if (own := self.towards(target)) is not self:
            return own.edit(images, ids, target, masks, within)
        n, device, space = len(images), self.cast.device, self.cast.space
        best = Edits.none(images, self.acceptance.there, self.ways)
        x = to_model(images).to(device)
        z = space.encode(x)
        within = self.where(images, masks) if within is None else within
        batch, tried = Batch(images, x, z, space.decode(z), ids, torch.full((n,), target, device=device)), 0
        realism, lock = Realism(self.cast, self.s.seed, batch), Lock(self.cast, self.s, images, masks)
        kept = Kept(best, self.acceptance, realism, ids, target)
        pending = np.arange(n)
        for way in self.ways:
            strategy: Strategy = EDITS[way](self, batch)
            pending = np.arange(n) if self.every else pending
            climbing = pending
            for k, rung in enumerate(strategy.rungs):
                if not len(climbing):
                    break
                mask = self.mask(within, climbing)
                with lock.rows(climbing):
                    edited, mask = self._attempt(strategy, climbing, rung, batch, mask, best)
                    if self.s.mask == "auto" and not strategy.finds:
                        here = torch.from_numpy(climbing)
                        mask = changed_region(edited - x[here], self.s.mask_share)
                        edited, mask = self._attempt(strategy, climbing, rung, batch, mask, best)
                saved, finite = as_saved(images[climbing], x[torch.from_numpy(climbing)], edited)
                made = Tried(climbing, images[climbing], saved, finite, mask, strategy.finds)
                accepted = kept.offer(made, rung, tried, way)
                pending, climbing = np.setdiff1d(pending, climbing[accepted]), climbing[~accepted]
                if self.s.settle is not None and k >= self.s.settle:
                    climbing = climbing[~kept.flips(climbing)]
                tried += 1
            if self.s.settle is not None:
                pending = pending[~kept.flips(pending)]
            if strategy.saliency is not None and self.looks:
                best.saliency = strategy.saliency.cpu().numpy().astype(np.float32)
        best.network_calls += realism.calls
        if best.mask is None and len(self.ways) > 1:  # other batches have one
            best.mask = np.ones(best.counterfactual.shape[:3], bool)
        return best

    def _attempt(
        self, strategy: Strategy, rows: np.ndarray, rung: Rung, batch: Batch, mask: Tensor | None, best: Edits
    ) -> tuple[Tensor, Tensor | None]:
        """The edited images (n, C, H, W) and where they may differ; what they cost is added to `best`."""
        space, here = self.cast.space, torch.from_numpy(rows)
        x = batch.x[here]
        found = strategy.attempt(rows, rung, None if mask is None else space.mask(mask))
        best.network_calls[rows] += found.network_calls.cpu().numpy().astype(np.int32)
        best.guide_calls[rows] += found.guided.cpu().numpy().astype(np.int32)
        edited = space.saved(x, batch.z[here], found.z, batch.drawn[here])
        if found.mask is not None:
            mask = found.mask if mask is None else found.mask * mask
        return only_within(mask, edited, x), mask

    def where(self, images: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray | None:
        """(B, H, W) bool, where the images may change, as the setting mask says; None for anywhere."""
        if self.s.mask == "object":
            return off_ground(images)
        return masks if self.s.mask == "data" else None

    def mask(self, within: np.ndarray | None, rows: np.ndarray) -> Tensor | None:
        """What `where` says (B, H, W) of the images `rows` (n,), as (n, 1, H, W) float; None of None."""
        if within is None:
            return None
        return torch.from_numpy(within[rows]).to(self.cast.device, torch.float32)[:, None]

    def solver(self) -> Solver:
        """A solver of the decode, with a memory of its own."""
        return SOLVERS[self.s.solver](self.s.eta)


def only_within(mask: Tensor | None, edited: Tensor, x: Tensor) -> Tensor:
    """Images (n, C, H, W) as edited where the mask (n, 1, H, W) is above 0, and x outside; edited of None."""
    return edited if mask is None else torch.where(mask > 0, edited, x)
