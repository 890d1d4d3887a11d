"""Training batches and their random numbers as functions of (seed, step): stopping and resuming changes nothing."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cfdiff.data.source import Source
from cfdiff.data.values import to_model
from cfdiff.engine.noise import seed_of
from cfdiff.engine.symmetry import Symmetry, axes, turned

CACHE_BYTES = 2 << 30
"""Sources up to this size are kept in memory; larger ones are read batch by batch."""
AHEAD = 2
"""Passes that are read before they are asked for."""


class Draws:
    """The random numbers of one batch; `rows` are the ones that this pass of this process asks for.

    They are drawn for the whole batch and then cut, so that neither --accumulate nor the number of processes changes
    a training by more than rounding.
    """

    def __init__(self, seed: int, size: int, rows: slice, device: torch.device | str = "cpu") -> None:
        self.size, self.rows, self.device = size, rows, torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def uniform(self, *shape: int) -> Tensor:
        """(b, *shape) float32 in [0, 1)."""
        return torch.rand(self.size, *shape, generator=self.generator, device=self.device)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """(b, *shape) float32, standard normal."""
        return torch.randn(self.size, *shape, generator=self.generator, device=self.device)[self.rows]

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """(b, *shape) int64 in low..high."""
        size = (self.size, *shape)
        return torch.randint(low, high + 1, size, generator=self.generator, device=self.device)[self.rows]

    def stratified(self) -> Tensor:
        """(b,) float32 in [0, 1): one in every 1/B of the interval, in random order."""
        place = torch.randperm(self.size, generator=self.generator, device=self.device)
        jitter = torch.rand(self.size, generator=self.generator, device=self.device)
        return ((place + jitter) / self.size)[self.rows]


@dataclass(frozen=True, eq=False)
class Batch:
    """One pass's share of a batch: images (b, C, H, W) in [-1, 1], labels (b,) int64, its random numbers, and which
    rows of the source it is, (b,)."""

    images: Tensor
    labels: Tensor
    draws: Draws
    rows: np.ndarray


class Batches:
    """Endless shuffled passes over a source; with `balance`, half of every batch is positive.

    A batch is cut into `accumulate` passes, and each pass into the shares of `world` processes. What does not fit in
    memory is read ahead by threads: which rows a pass takes is known before it is asked for.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int,
        *,
        balance: bool = False,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.source, self.batch_size, self.seed, self.device = source, batch_size, seed, device
        self.rank, self.world, self.accumulate, self.cuts = rank, world, accumulate, accumulate * world
        self.pools = [np.flatnonzero(source.labels == k) for k in (0, 1)] if balance else [np.arange(len(source))]
        self.shares = [batch_size - batch_size // 2, batch_size // 2] if balance else [batch_size]
        size = len(source) * int(np.prod(source.shape)) * source.dtype.itemsize
        self.cache = source.read(np.arange(len(source))) if size <= CACHE_BYTES else None
        self._shuffled = lru_cache(maxsize=8)(self._shuffle)
        self._readers = ThreadPoolExecutor(AHEAD, "reader") if self.cache is None else None
        self._ahead: dict[tuple[int, int], Future[Tensor]] = {}

    def indices(self, step: int) -> np.ndarray:
        """(B,) the rows of the whole batch of `step`."""
        return np.concatenate([self._rows(pool, step * n, n) for pool, n in enumerate(self.shares)])

    def read(self, step: int, part: int = 0) -> Batch:
        """This process's share of pass `part` of the batch of `step`."""
        mine, rows = self._mine(part), self._rows_of(step, part)
        images = self._images(step, part)
        labels = torch.from_numpy(self.source.labels[rows].astype(np.int64))
        draws = Draws(seed_of(self.seed, f"batch/{step}"), self.batch_size, mine, self.device)
        return Batch(images.to(self.device, non_blocking=True), labels.to(self.device), draws, rows)

    def _mine(self, part: int) -> slice:
        """Which of a whole batch are this process's in a pass."""
        return slice(part * self.world + self.rank, None, self.cuts)

    def _rows_of(self, step: int, part: int) -> np.ndarray:
        return self.indices(step)[self._mine(part)]

    def _images(self, step: int, part: int) -> Tensor:
        """The images of a pass, from memory, or as a thread has read them by now; the next ones are asked for."""
        if self._readers is None:
            return self._load(step, part)
        first = step * self.accumulate + part
        keys = [divmod(first + i, self.accumulate) for i in range(AHEAD + 1)]
        self._ahead = {key: self._ahead.get(key) or self._readers.submit(self._load, *key) for key in keys}
        return self._ahead.pop(keys[0]).result()

    def _load(self, step: int, part: int) -> Tensor:
        rows = self._rows_of(step, part)
        images = to_model(self.source.read(rows) if self.cache is None else self.cache[rows])
        return images.pin_memory() if torch.device(self.device).type == "cuda" else images

    def _rows(self, pool: int, start: int, n: int) -> np.ndarray:
        epochs, places = np.divmod(np.arange(start, start + n), len(self.pools[pool]))
        return np.array([self._shuffled(pool, e)[i] for e, i in zip(epochs.tolist(), places.tolist(), strict=True)])

    def _shuffle(self, pool: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, pool, epoch]).permutation(self.pools[pool])


@dataclass(frozen=True)
class Light:
    """How much the light of images, as values v in [0, 1], is varied at random; black stays black in any.

    Attributes:
        gain: v is multiplied by 1 +- gain, cut at 1.
        cast: so is each channel of a colour image by itself, by 1 +- cast: another white balance, or stain.
        gamma: v becomes v^g then, with g between e^-gamma and e^gamma: another exposure.
    """

    gain: float = 0.0
    gamma: float = 0.0
    cast: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.gain or self.gamma or self.cast)

    def varied(self, x: Tensor, draws: Draws) -> Tensor:
        """Images (b, C, H, W) in [-1, 1] in other light; what is 0 draws nothing."""
        if self.gain:
            x = _brightened(x, 1 + self.gain * (2 * draws.uniform(1, 1, 1) - 1))
        if self.cast and x.shape[1] > 1:
            x = _brightened(x, 1 + self.cast * (2 * draws.uniform(x.shape[1], 1, 1) - 1))
        if self.gamma:
            exponent = (self.gamma * (2 * draws.uniform(1, 1, 1) - 1)).exp()
            x = 2 * ((x + 1) / 2).clamp(min=0) ** exponent - 1
        return x


AS_IT_IS = Light()


def _brightened(x: Tensor, factor: Tensor) -> Tensor:
    """x in [-1, 1] as values in [0, 1] that are multiplied, cut at 1."""
    return ((x + 1) * factor - 1).clamp(max=1)


def augment(x: Tensor, draws: Draws, kind: Symmetry, shift: int = 0, light: Light = AS_IT_IS) -> Tensor:
    """Random flips, shifts and light of images (b, C, H, W) in [-1, 1].

    Args:
        kind: "flip" mirrors left and right; "dihedral" takes one of the eight symmetries of a square (of the four
            of a rectangle).
        shift: up to this many pixels either way; the border is repeated.
    """
    _, channels, height, width = x.shape
    x = turned(x, symmetries(draws, kind, height == width))
    if shift:
        down, right = draws.integers(-shift, shift, 2).unbind(1)
        rows = (torch.arange(height, device=x.device) + down[:, None]).clamp(0, height - 1)
        columns = (torch.arange(width, device=x.device) + right[:, None]).clamp(0, width - 1)
        x = x.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
        x = x.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))
    return light.varied(x, draws)


def symmetries(draws: Draws, kind: Symmetry, square: bool) -> Tensor:
    """(b, 3) bool: whether each image is mirrored left and right, up and down, and transposed; see `augment`."""
    if kind == "none":  # draws nothing
        return torch.zeros(len(range(draws.size)[draws.rows]), 3, dtype=torch.bool, device=draws.device)
    return (draws.uniform(3) < 0.5) & torch.tensor(axes(kind, square), device=draws.device)


def drop_told(draws: Draws, told: Tensor, share: float) -> Tensor:
    """What a conditional network is told of images, classes (b,) or codes (b, n) int64: -1, nothing, for a share of
    them.

    A network that is at times told nothing learns the unconditional denoiser too (Ho & Salimans 2022, algorithm 1).
    Labels of no class are -1 already.
    """
    dropped = (draws.uniform() < share).view(-1, *[1] * (told.ndim - 1))
    return torch.where(dropped, -1, told)


def draw_levels(draws: Draws, T: int, power: float, clean_share: float = 0.0) -> Tensor:
    """(b,) int64 levels in 1..T as T u^power, u stratified over the batch; a share of them is level 0 instead.

    Stratified, because the loss differs by orders of magnitude between levels, and an even spread keeps that out of
    the variance of the gradient (Kingma et al. 2021, appendix I.1).
    """
    levels = (T * draws.stratified() ** power).long().clamp(max=T - 1) + 1
    return torch.where(draws.uniform() < clean_share, 0, levels)
