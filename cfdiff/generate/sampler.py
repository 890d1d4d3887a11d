"""From noise to images: the walk down of the engine, begun where nothing of an image is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfdiff.data.values import as_saved, to_model
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.strategy import Counter
from cfdiff.engine import (
    Denoise,
    NoiseSource,
    Trajectory,
    decode,
    encode_ddim,
    from_noise,
    make_tau,
    noise_level,
    slerp,
)
from cfdiff.errors import UserError
from cfdiff.generate.models import Canvas, Leading
from cfdiff.generate.plan import Plan
from cfdiff.generate.settings import GenerateSettings
from cfdiff.registry import GUIDES, SOLVERS
from cfdiff.store.samples import QUARANTINED

Start = Callable[[np.ndarray], Tensor]
"""Places (B,) in [0, 1] between two ends -> where the walks of these images begin, (B, c, h, w)."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """B images as saved (B, H, W, C), which of them are finite, and what each cost, (B,)."""

    images: np.ndarray
    finite: np.ndarray
    network_calls: np.ndarray
    guide_calls: np.ndarray


class Sampler:
    """Draws images with one cast and one set of settings; `target` is the class asked for, None is none."""

    def __init__(self, cast: Cast, canvas: Canvas, s: GenerateSettings, leading: Leading, target: int | None) -> None:
        self.cast, self.canvas, self.s, self.leading, self.target = cast, canvas, s, leading, target
        self.top = noise_level(cast.schedule)
        self.clip = cast.space.discrete if s.clip is None else s.clip
        height, width, channels = canvas.shape
        self.shape = cast.space.shape(channels, height, width)
        for steps in s.steps:
            self.tau(steps)  # an impossible number is said before any computation

    def tau(self, steps: int) -> list[int]:
        """The levels of a walk of so many steps; UserError where there are fewer."""
        if steps > self.top:
            raise UserError(
                f"{steps} steps are more than the {self.top} levels of {self.cast.diffusion.name!r} that hold anything "
                "of an image: use fewer --steps."
            )
        return make_tau(self.cast.schedule, self.top / self.cast.schedule.T, steps, self.s.spacing)

    def noise(self, seeds: Sequence[int]) -> NoiseSource:
        """The noise of each seed: the first draw is where its walk begins, the others are those of its steps."""
        return NoiseSource(0, [f"generate/{seed}" for seed in seeds])

    def start(self, source: NoiseSource, n: int) -> Tensor:
        """(n, c, h, w) pure noise."""
        return source.like(torch.empty((n, *self.shape), device=self.cast.device))

    def path(self, ends: np.ndarray, steps: int) -> Start:
        """Places (B,) in [0, 1] -> where their walks begin: between the DDIM encodings of two images (2, H, W, C)."""
        z = self.cast.space.encode(to_model(ends).to(self.cast.device))
        top = encode_ddim(self.cast.schedule, self._denoise(self._target(2)), z, self.tau(steps)).x[-1]
        return lambda t: slerp(top[0], top[1], torch.from_numpy(t))

    def between(self, pair: tuple[int, int]) -> Start:
        """The same between the noises of two seeds."""
        ends = self.start(self.noise(pair), 2)
        return lambda t: slerp(ends[0], ends[1], torch.from_numpy(t))

    def draw(self, z: Tensor, steps: int, source: NoiseSource | None = None) -> Drawn:
        """Walk z (B, c, h, w), noise at the first level of tau, down to images.

        Args:
            source: of the noise of each step, where the sampler is stochastic.
        """
        cast, n = self.cast, len(z)
        target, count = self._target(n), Counter(z)
        ask = self._denoise(target)
        path: Trajectory = from_noise(cast.schedule, ask, z, self.tau(steps))
        z0 = decode(
            cast.schedule,
            ask,
            path,
            solver=SOLVERS[self.s.solver](self.s.eta),
            guidance=None if target is None else self.leading.guidance(cast, target, self.s.ratio),
            anchored=False,
            clip=self.clip,
            noise=source,
            callback=count.step,
        )
        with torch.no_grad():
            x = cast.space.decode(z0)
        black = np.zeros((n, *self.canvas.shape), self.canvas.dtype)
        images, finite = as_saved(black, torch.full_like(x, -1), x)
        each = sum(GUIDES[name].calls_a_gradient(self.leading.edit) for name in self.leading.names)
        return Drawn(images, finite, _ints(count.cost(each) + path.calls), _ints(count.guided))

    def rows(self, plan: Plan, rows: np.ndarray, starts: dict[int, Start]) -> dict[str, np.ndarray]:
        """The arrays of some images of a plan (store.samples.SAMPLES); `starts` keeps the paths that were made."""
        parts: list[Drawn] = []
        for steps in np.unique(plan.steps[rows]).tolist():
            some = rows[plan.steps[rows] == steps]
            if plan.position is None:
                source = self.noise(plan.seeds[some].tolist())
                parts.append(self.draw(self.start(source, len(some)), steps, source))
                continue
            if steps not in starts:
                starts[steps] = self._starts(plan, steps)
            parts.append(self.draw(starts[steps](plan.position[some]), steps))
        return self._arrays(plan, rows, parts)

    def _starts(self, plan: Plan, steps: int) -> Start:
        if plan.seed_ends is not None:
            return self.between(plan.seed_ends)
        assert plan.ends is not None, "a path is between seeds or images"
        return self.path(plan.ends.read([0, 1]), steps)

    def _arrays(self, plan: Plan, rows: np.ndarray, parts: Sequence[Drawn]) -> dict[str, np.ndarray]:
        images, finite, network, guided = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("images", "finite", "network_calls", "guide_calls")
        )
        arrays = {
            "id": plan.ids[rows],
            "image": images,
            "steps": plan.steps[rows],
            "seed": plan.seeds[rows],
            "target": np.full(len(rows), -1 if self.target is None else self.target, np.int8),
            "network_calls": network,
            "guide_calls": guided,
            "status": np.where(finite, "ok", QUARANTINED),
        }
        if plan.position is not None:
            arrays["position"] = plan.position[rows]
        if self.cast.judge is not None:
            arrays["prob/judge"] = probabilities(self.cast.judge, to_model(images).to(self.cast.device)).numpy()
        return arrays

    def _target(self, n: int) -> Tensor | None:
        """(n,) int64 the class asked for, either for a text alone, which stands for both; None for none."""
        if self.target is None and self.s.text is None:
            return None
        return torch.full((n,), self.target or 0, device=self.cast.device)

    def _denoise(self, target: Tensor | None) -> Denoise:
        """eps(x, level) of the walk: told the class where that is what leads there, else nothing."""
        ask = self.cast.denoise
        return (lambda x, level: ask(x, level, target)) if self.leading.told else ask


def _ints(x: Tensor) -> np.ndarray:
    return x.cpu().numpy().astype(np.int32)
