"""Which mixes: --mix and --sweep as fractions, --counts as positives, or a distribution that is drawn for each bag."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cfdiff.engine import seed_of, wanted_count
from cfdiff.errors import UserError

_MOST = 10_001  # points of a sweep: more is a slip of the pen


@dataclass(frozen=True)
class Mixes:
    """The mixes of every bag: a list, Beta(a, b), and numbers of positives."""

    values: tuple[float, ...] = ()
    beta: tuple[float, float] | None = None
    counts: tuple[int, ...] = ()

    def of(self, bag: str, seed: int) -> list[float]:
        """The mixes of one bag; a drawn one depends on the seed and the bag's name alone."""
        if self.beta is None:
            return list(self.values)
        return [float(np.random.default_rng(seed_of(seed, f"mix/{bag}")).beta(*self.beta))]

    def within(self, bag: str, size: int, seed: int) -> list[float]:
        """The mixes of a bag of `size` instances, from the lowest on where there are counts.

        A count is the fraction k / size, but where another mix comes to as many positives.

        Raises:
            UserError: the bag has fewer instances than a count.
        """
        found = self.of(bag, seed)
        if not self.counts:
            return found
        if max(self.counts) > size:
            raise UserError(
                f"Bag {bag!r} has {size} instances, fewer than {max(self.counts)} of --counts: lower them or leave the "
                "bag out."
            )
        there = {wanted_count(size, mix) for mix in found}
        return sorted([*found, *(k / size for k in self.counts if k not in there)])


def parse_mixes(mix: str, sweep: str | None, counts: str | None = None) -> Mixes:
    """`0.3`, `0.1,0.3,0.5` or `beta:2,5`; a sweep `start:stop:step` or counts `1,2` take the place of the mix.

    Counts stand beside a sweep.

    Raises:
        UserError: not a number, outside [0, 1], an empty list, a distribution or sweep that does not exist, or counts
            that are no whole numbers.
    """
    numbers = () if counts is None else _counts(counts)
    if sweep is not None:
        return Mixes(_sweep(sweep), counts=numbers)
    if counts is not None:
        return Mixes(counts=numbers)
    if mix.startswith("beta:"):
        a_b = [_number(part, "--mix") for part in mix.removeprefix("beta:").split(",")]
        if len(a_b) != 2 or min(a_b) <= 0:
            raise UserError(f"--mix {mix!r} is no beta distribution: give two positive numbers, such as beta:2,5.")
        return Mixes(beta=(a_b[0], a_b[1]))
    values = [_fraction(part, "--mix") for part in mix.split(",")]
    if len(set(values)) != len(values):
        raise UserError(f"--mix {mix!r} names a mix twice: name each once.")
    return Mixes(tuple(values))


def _counts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"--counts {text!r} is no list of whole numbers: give numbers of positives, such as 1,2,4.")
    if len(set(map(int, parts))) != len(parts):
        raise UserError(f"--counts {text!r} names a number twice: name each once.")
    return tuple(map(int, parts))


def _sweep(text: str) -> tuple[float, ...]:
    parts = text.split(":")
    if len(parts) != 3:
        raise UserError(f"--sweep {text!r} is not start:stop:step: give three numbers, such as 0:1:0.1.")
    start, stop = (_fraction(part, "--sweep") for part in parts[:2])
    step = _number(parts[2], "--sweep")
    if step <= 0 or stop < start or (stop - start) / step >= _MOST:
        raise UserError(f"--sweep {text!r} has no usable points: give start <= stop and a positive step.")
    points = math.floor((stop - start) / step + 1e-9) + 1
    return tuple(round(start + i * step, 10) for i in range(points))


def _fraction(text: str, option: str) -> float:
    value = _number(text, option)
    if not 0 <= value <= 1:
        raise UserError(f"{option} {text.strip()!r} is outside [0, 1]: a mix is the fraction of positive instances.")
    return value


def _number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{option} {text.strip()!r} is not a number: give the fraction of positives, such as 0.3.")
    return value
