"""Edit a batch of images to a target class: encode, guided decode, check what would be saved, climb the ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cfdiff.data.values import mean_change, to_model, to_saved
from cfdiff.edit.ladder import Rung, ladder
from cfdiff.edit.roles import Cast, probabilities
from cfdiff.edit.settings import EditSettings
from cfdiff.engine import (
    Ddim,
    Ddpm,
    DpmSolver2M,
    Guidance,
    Guide,
    NoiseSource,
    NoisyGuide,
    Solver,
    Step,
    Trajectory,
    TweedieGuide,
    decode,
    encode_ddim,
    encode_fixed_point,
    encode_noise,
    make_tau,
)


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


class Editor:
    """Edits images with one cast and one set of settings; holds no state between batches."""

    def __init__(self, cast: Cast, s: EditSettings) -> None:
        self.cast, self.s = cast, s
        self.rungs = ladder(s)
        self.accept = min(s.accept, s.target)  # the closed loop stops at `target`: more would be luck
        for rung in self.rungs:  # an impossible depth or step count is said before any computation
            self.tau(rung.depth)

    def tau(self, depth: float) -> list[int]:
        """The levels for `depth`: deeper rungs keep the number of steps."""
        return make_tau(self.cast.schedule, depth, self.s.steps, self.s.spacing)

    def encode(self, x0: Tensor, ids: Sequence[str], depth: float) -> Trajectory:
        """The encoded path of x0 (B, C, H, W) in [-1, 1] up to `depth`."""
        cast, tau = self.cast, self.tau(depth)
        if self.s.inversion == "ddim":
            return encode_ddim(cast.schedule, cast.denoise, x0, tau)
        if self.s.inversion == "fixed-point":
            return encode_fixed_point(cast.schedule, cast.denoise, x0, tau)
        return encode_noise(
            cast.schedule, cast.denoise, x0, tau, NoiseSource(self.s.seed, [f"encode/{i}" for i in ids])
        )

    def decode(
        self,
        path: Trajectory,
        ids: Sequence[str],
        target: Tensor,
        rung: Rung,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The counterfactuals (B, C, H, W) at the end of `path`, and the guided steps that each took, (B,).

        `path` is encoded to the rung's depth.
        """
        cast, s = self.cast, self.s
        guided_steps = torch.zeros(len(target), dtype=torch.int64)

        def count(step: Step) -> None:
            guided_steps.add_(step.active.cpu())

        guidance = Guidance(
            cast.schedule,
            self.guides(),
            rung.scale,
            rung.ratio,
            target,
            checker=cast.checker_log_prob if s.closed_loop else None,
            confidence=s.target,
        )
        x = decode(
            cast.schedule,
            cast.denoise,
            path,
            solver=self._solver(),
            guidance=guidance if s.scale else None,
            anchored=s.anchored,
            mask=mask,
            clip=s.clip,
            noise=NoiseSource(s.seed, ids),
            callback=count,
        )
        return x, guided_steps

    def reconstruct(self, images: np.ndarray, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The factual: encode and decode without guidance, as it would be saved; and which are finite, (B,) bool."""
        path = self.encode(to_model(images).to(self.cast.device), ids, self.s.depth)
        x = decode(
            self.cast.schedule,
            self.cast.denoise,
            path,
            solver=self._solver(),
            anchored=self.s.anchored,
            clip=self.s.clip,
            noise=NoiseSource(self.s.seed, ids),
        )
        return as_saved(images, path.x[0], x)

    def edit(self, images: np.ndarray, ids: Sequence[str], target: int, masks: np.ndarray | None = None) -> Edits:
        """Edit (B, H, W, C) stored images to class `target`; only those that do not flip climb the ladder.

        A try is accepted when the checker, on the image as saved, gives the target at least `accept`, a margin above
        1/2 because the judge is another model. Where no rung is accepted, the smallest change that flips at all is
        kept, and where none flips, the try that came closest.
        """
        n, device = len(images), self.cast.device
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
        pending = np.arange(n)
        path, path_rows, path_depth = None, pending, None
        for k, rung in enumerate(self.rungs):
            if not len(pending):
                break
            names = [ids[i] for i in pending.tolist()]
            if path is None or rung.depth != path_depth:
                x0 = to_model(images[pending]).to(device)
                path, path_rows, path_depth = self.encode(x0, names, rung.depth), pending, rung.depth
                best.network_calls[pending] += path.calls
            here = path.select(np.searchsorted(path_rows, pending).tolist())
            goals = torch.full((len(pending),), target, device=device)
            mask = self._data_mask(masks, pending)
            x, guided = self.decode(here, names, goals, rung, mask)
            passes = 1
            if self.s.mask == "auto":
                mask = changed_region(x - here.x[0], self.s.mask_share)
                x, more = self.decode(here, names, goals, rung, mask)
                guided, passes = guided + more, 2
            guide_calls = guided.numpy().astype(np.int32)
            best.network_calls[pending] += passes * (here.steps - 1)
            best.guide_calls[pending] += guide_calls
            if self.s.exact and self.s.guides != "noisy":  # each exact gradient passes through the network once more
                best.network_calls[pending] += guide_calls

            saved, finite = as_saved(images[pending], here.x[0], x)
            accepted = self._keep(best, score, pending, images[pending], saved, finite, target, rung, k, mask)
            pending = pending[~accepted]
        return best

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

    def guides(self) -> list[Guide]:
        """The guides that the settings name; their gradients add."""
        cast, s = self.cast, self.s
        guides: list[Guide] = []
        if s.guides in ("both", "noisy"):
            guides.append(NoisyGuide(cast.guide_log_prob, max_level=cast.guide_max_level))
        if s.guides in ("both", "clean"):
            guides.append(TweedieGuide(cast.schedule, cast.checker_log_prob, exact=s.exact, denoise=cast.denoise))
        return guides

    def _solver(self) -> Solver:
        if self.s.solver == "ddim":
            return Ddim(self.s.eta)
        return Ddpm() if self.s.solver == "ddpm" else DpmSolver2M()


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
