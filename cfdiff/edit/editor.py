"""Edit a batch of images to a target class: try, check what would be saved, climb the ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cfdiff.data.values import mean_change, to_model, to_saved
from cfdiff.edit.ladder import Rung, ladder
from cfdiff.edit.roles import Cast, probabilities
from cfdiff.edit.settings import EditSettings
from cfdiff.engine import (
    Denoise,
    Guidance,
    Guide,
    NoiseSource,
    Solver,
    Step,
    Trajectory,
    decode,
    encode_ddim,
    encode_fixed_point,
    encode_noise,
    make_tau,
)
from cfdiff.engine.joint import chunked
from cfdiff.registry import EDITS, GUIDES, SOLVERS


@dataclass
class Edits:
    """What a batch became; rows follow the images. `quarantined`: no try gave finite pixels, so the source stands."""

    counterfactual: np.ndarray
    checker: np.ndarray | None
    ratio: np.ndarray
    depth: np.ndarray
    retries: np.ndarray
    network_calls: np.ndarray
    guide_calls: np.ndarray
    mask: np.ndarray | None
    quarantined: np.ndarray


@dataclass(frozen=True, eq=False)
class Batch:
    """What a way of editing gets: z (B, c, h, w), the images in the space; ids (B,); target (B,) int64 classes."""

    z: Tensor
    ids: Sequence[str]
    target: Tensor


@dataclass(frozen=True, eq=False)
class Attempt:
    """One try on n images: their edited z (n, c, h, w); guided steps and network calls of each, (n,) int64."""

    z: Tensor
    guided: Tensor
    network_calls: Tensor


class Strategy(Protocol):
    """A way of editing, made for one batch; the editor climbs the ladder with it."""

    def attempt(self, rows: np.ndarray, rung: Rung, mask: Tensor | None = None) -> Attempt:
        """Edit the images `rows` (n,), increasing, of the batch.

        `mask` (n, 1, h, w) in [0, 1] is where z may change; outside, z must come back bit for bit.
        """
        ...


class Editor:
    """Edits images with one cast and one set of settings; holds no state between batches."""

    def __init__(self, cast: Cast, s: EditSettings) -> None:
        self.cast, self.s = cast, s
        self.rungs = ladder(s)
        self.accept = min(s.accept, s.target)  # the closed loop stops at `target`: more would be luck
        self.calls_a_gradient = sum(GUIDES[name].calls_a_gradient(s) for name in s.guide_names)
        for rung in self.rungs:  # an impossible depth or step count is said before any computation
            self.tau(rung.depth)

    def tau(self, depth: float) -> list[int]:
        """The levels for `depth`: deeper rungs keep the number of steps."""
        return make_tau(self.cast.schedule, depth, self.s.steps, self.s.spacing)

    def guides(self) -> list[Guide]:
        """The guides that the settings name; their gradients add."""
        return [GUIDES[name].make(self.cast, self.s) for name in self.s.guide_names]

    def denoiser(self, told: Tensor | None, chunk: int | None = None) -> Denoise:
        """The unguided eps(x, level) of images whose classes `told` (n,) it is told; `chunk` images a call, or all."""
        ask = self.cast.denoise if chunk is None else chunked(self.cast.denoise, chunk)
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
        return replace(path, told=told)

    def decode(
        self, path: Trajectory, ids: Sequence[str], target: Tensor, rung: Rung, mask: Tensor | None = None
    ) -> Attempt:
        """Walk `path`, which is encoded to the rung's depth, down under the guidance of the settings."""
        guidance = Guidance(
            self.cast.schedule,
            self.guides(),
            rung.scale,
            rung.ratio,
            target,
            checker=self.cast.clean_log_prob if self.s.closed_loop else None,
            confidence=self.s.target,
        )
        return self.walk(path, ids, guidance if self.s.scale else None, mask)

    def walk(
        self,
        path: Trajectory,
        ids: Sequence[str],
        guidance: Guidance | None,
        mask: Tensor | None = None,
        chunk: int | None = None,
    ) -> Attempt:
        """As `decode`, with any guidance, told what `path` was; the network gets `chunk` images a call, all if None."""
        cast, s = self.cast, self.s
        x = path.x[0]
        guided = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        ask = self.denoiser(path.told, chunk)
        calls = 0

        def denoise(x: Tensor, level: int) -> Tensor:
            nonlocal calls
            calls += 1
            return ask(x, level)

        def count(step: Step) -> None:
            guided.add_(step.active)

        z = decode(
            cast.schedule,
            denoise,
            path,
            solver=self._solver(),
            guidance=guidance,
            anchored=s.anchored,
            mask=mask,
            clip=s.clip,
            noise=NoiseSource(s.seed, ids),
            callback=count,
        )
        return Attempt(z, guided, guided * self.calls_a_gradient + calls)

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

    def edit(self, images: np.ndarray, ids: Sequence[str], target: int, masks: np.ndarray | None = None) -> Edits:
        """Edit (B, H, W, C) stored images to class `target`; only those that do not flip climb the ladder.

        A try is accepted when the checker, on the image as saved, gives the target at least `accept`, a margin above
        1/2 because the judge is another model. Where no rung is accepted, the smallest change that flips at all is
        kept, and where none flips, the try that came closest.

        Args:
            masks: (B, H, W) bool, where the images may change, for the setting mask "data".
        """
        n, device, space = len(images), self.cast.device, self.cast.space
        best = Edits(
            images.copy(),
            None if self.cast.checker is None else np.zeros((n, 2), np.float32),
            np.zeros(n, np.float32),
            np.zeros(n, np.float32),
            np.zeros(n, np.int16),
            np.zeros(n, np.int32),
            np.zeros(n, np.int32),
            None if self.s.mask == "none" else np.zeros(images.shape[:3], bool),
            np.zeros(n, bool),
        )
        score = np.full((n, 2), -np.inf)
        x = to_model(images).to(device)
        z = space.encode(x)
        strategy: Strategy = EDITS[self.s.edit](self, Batch(z, ids, torch.full((n,), target, device=device)))
        pending = np.arange(n)
        for k, rung in enumerate(self.rungs):
            if not len(pending):
                break
            here = slice(None) if len(pending) == n else torch.from_numpy(pending)
            mask = self._data_mask(masks, pending)
            edited = self._attempt(strategy, pending, rung, x[here], z[here], mask, best)
            if self.s.mask == "auto":
                mask = changed_region(edited - x[here], self.s.mask_share)
                edited = self._attempt(strategy, pending, rung, x[here], z[here], mask, best)
            saved, finite = as_saved(images[pending], x[here], edited)
            accepted = self._keep(best, score, pending, images[pending], saved, finite, target, rung, k, mask)
            pending = pending[~accepted]
        return best

    def _attempt(
        self, strategy: Strategy, rows: np.ndarray, rung: Rung, x: Tensor, z: Tensor, mask: Tensor | None, best: Edits
    ) -> Tensor:
        """The edited images (n, C, H, W) of x, whose encoding is z; what they cost is added to `best`."""
        space = self.cast.space
        found = strategy.attempt(rows, rung, None if mask is None else space.mask(mask))
        best.network_calls[rows] += found.network_calls.cpu().numpy().astype(np.int32)
        best.guide_calls[rows] += found.guided.cpu().numpy().astype(np.int32)
        edited = space.saved(x, z, found.z)
        return edited if mask is None else torch.where(mask > 0, edited, x)

    def _keep(
        self,
        best: Edits,
        score: np.ndarray,
        rows: np.ndarray,
        images: np.ndarray,
        saved: np.ndarray,
        finite: np.ndarray,
        target: int,
        rung: Rung,
        k: int,
        mask: Tensor | None,
    ) -> np.ndarray:
        """Store the tries that are better than what is there; which are accepted, (len(rows),) bool."""
        if self.cast.checker is None:
            better, accepted = np.ones(len(rows), bool), finite
        else:
            p = probabilities(self.cast.checker, to_model(saved).to(self.cast.device)).numpy()
            hit = np.where(finite, p[:, target], -np.inf)  # a try that is not finite is worse than any other
            accepted = hit >= self.accept
            # Flips before those that do not; among flips the smaller change, among the others the closer.
            change = mean_change(images, saved)
            flips = accepted | (hit > 0.5)
            rank = np.stack([np.where(accepted, 2, flips), np.where(flips, -change, hit)], axis=1)
            better = np.array([tuple(new) > tuple(old) for new, old in zip(rank, score[rows], strict=True)])
            score[rows[better]] = rank[better]
            assert best.checker is not None
            best.checker[rows[better]] = p[better]
        kept = rows[better]
        best.counterfactual[kept] = saved[better]
        best.ratio[kept] = np.inf if rung.ratio is None else rung.ratio
        best.depth[kept], best.retries[rows] = rung.depth, k
        best.quarantined[kept] = ~finite[better]
        if best.mask is not None and mask is not None:
            best.mask[kept] = (mask[:, 0] > 0).cpu().numpy()[better]
        return accepted

    def _data_mask(self, masks: np.ndarray | None, rows: np.ndarray) -> Tensor | None:
        if self.s.mask != "data" or masks is None:
            return None
        return torch.from_numpy(masks[rows]).to(self.cast.device, torch.float32)[:, None]

    def _solver(self) -> Solver:
        return SOLVERS[self.s.solver](self.s.eta)


def changed_region(change: Tensor, share: float, blur: int = 3, grow: int = 3) -> Tensor:
    """(B, 1, H, W) mask in [0, 1] of the `share` most changed pixels of (B, C, H, W), dilated, with a soft edge."""
    size = change.abs().mean(1, keepdim=True)
    size = F.avg_pool2d(size, blur, 1, blur // 2)
    threshold = size.flatten(1).quantile(1 - share, dim=1).view(-1, 1, 1, 1)
    mask = F.max_pool2d((size >= threshold).float(), grow, 1, grow // 2)
    return F.avg_pool2d(mask, blur, 1, blur // 2)


def as_saved(images: np.ndarray, x0: Tensor, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The edit x (B, C, H, W) of x0 in the type of `images` (B, H, W, C), and which samples are finite, (B,) bool.

    Where an edit changed nothing, or a sample is not finite (an overflow in half precision, say), the bytes are those
    of `images`. uint8 and uint16 come back from [-1, 1] exactly anyway; float32 does not.
    """
    finite = x.isfinite().flatten(1).all(1)
    x = torch.where(finite.view(-1, 1, 1, 1), x, x0)
    same = (x == x0).permute(0, 2, 3, 1).cpu().numpy()
    return np.where(same, images, to_saved(x, images.dtype)), finite.cpu().numpy()
