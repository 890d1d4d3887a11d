"""Which images are drawn: a row for each, in the order of the file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfdiff.data.source import NEGATIVE, POSITIVE, Source, random_subset
from cfdiff.data.splitting import TEST, own_split
from cfdiff.errors import UserError
from cfdiff.generate.settings import LEAST_OF_A_PATH, GenerateSettings
from cfdiff.registry import SOLVERS


@dataclass(frozen=True, eq=False)
class Plan:
    """N images to draw; those of one number of steps stand together, the fewest steps first.

    Attributes:
        ids, steps, seeds: (N,) what each is of, the levels that it walks down, and the seed of its noise.
        position: (N,) place between the two ends; None where there are none.
        seed_ends: the two seeds of a path between seeds.
        ends: the two images of a path between images.
    """

    ids: np.ndarray
    steps: np.ndarray
    seeds: np.ndarray
    position: np.ndarray | None = None
    seed_ends: tuple[int, int] | None = None
    ends: Source | None = None

    def __len__(self) -> int:
        return len(self.ids)


def make_plan(s: GenerateSettings, real: Source | None) -> Plan:
    """What the settings ask for.

    Raises:
        UserError: a path has no two ends, its ends are not there, or its sampler draws noise on the way.
    """
    steps = np.repeat(np.array(s.steps, np.int32), s.images)
    if s.interpolate == "none":
        if s.ends is not None:
            raise UserError("--ends are those of a path: say between what with --interpolate seeds or images.")
        seeds = np.tile(s.seed + np.arange(s.images), len(s.steps))
        return Plan(_ids([f"seed-{seed}" for seed in seeds], steps, s), steps, seeds)
    if s.images < LEAST_OF_A_PATH:
        raise UserError(f"A path from one end to the other has at least {LEAST_OF_A_PATH} images: ask for --images 8.")
    if SOLVERS[s.solver](s.eta).stochastic:
        raise UserError(
            f"The sampler {s.solver} with --eta {s.eta:g} draws new noise at every step, so nothing lies between two "
            "images: use --solver ddim --eta 0, dpm++, heun or unipc."
        )
    place = np.tile(np.linspace(0, 1, s.images).astype(np.float32), len(s.steps))
    if s.interpolate == "seeds":
        pair = _two_seeds(s)
        names = [f"seed-{pair[0]}..{pair[1]}/{t:.4f}" for t in place]
        return Plan(_ids(names, steps, s), steps, np.full(len(steps), pair[0]), place, seed_ends=pair)
    ends = _two_images(s, real)
    names = [f"{ends.ids[0]}..{ends.ids[1]}/{t:.4f}" for t in place]
    return Plan(_ids(names, steps, s), steps, np.full(len(steps), s.seed), place, ends=ends)


def _ids(names: list[str], steps: np.ndarray, s: GenerateSettings) -> np.ndarray:
    """Unique names: with several numbers of steps, the number too."""
    several = len(s.steps) > 1
    return np.array([f"{name}/steps-{n}" if several else name for name, n in zip(names, steps, strict=True)])


def _two_seeds(s: GenerateSettings) -> tuple[int, int]:
    first, second = s.ends or (str(s.seed), str(s.seed + 1))
    if not (first.isdecimal() and second.isdecimal()):
        raise UserError(f"--ends {first},{second} are no two seeds: give whole numbers, as --ends 3,17.")
    return int(first), int(second)


def _two_images(s: GenerateSettings, real: Source | None) -> Source:
    if real is None:
        raise UserError("There are no real images to go between: name them with --data.")
    if s.ends is None:
        part = real.narrow(split_of(s, real))
        ids = [random_subset(part.narrow(label=label), 1, s.seed).ids[0] for label in (NEGATIVE, POSITIVE)]
    else:
        ids = list(s.ends)
    rows = []
    for name in ids:
        found = np.flatnonzero(real.ids == name)
        if not len(found):
            raise UserError(f"{real.name} has no image {name!r}: its ids are such as {str(real.ids[0])!r}.")
        rows.append(int(found[0]))
    return real.select(rows)


def split_of(s: GenerateSettings, real: Source) -> str | None:
    """The split of the real images: as the settings say, else test where there is one."""
    return s.split or own_split(real, TEST)
