"""Which mixes: --mix and --sweep as numbers, or as a distribution that is drawn for each bag."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cfdiff.engine import seed_of
from cfdiff.errors import UserError

_MOST = 10_001  # points of a sweep: more is a slip of the pen


@dataclass(frozen=True)
class Mixes:
    """The mixes of every bag: a list, or Beta(a, b)."""

    values: tuple[float, ...] = ()
    beta: tuple[float, float] | None = None

    def of(self, bag: str, seed: int) -> list[float]:
        """The mixes of one bag; a drawn one depends on the seed and the bag's name alone."""
        if self.beta is None:
            return list(self.values)
        return [float(np.random.default_rng(seed_of(seed, f"mix/{bag}")).beta(*self.beta))]


def parse_mixes(mix: str, sweep: str | None) -> Mixes:
    """`0.3`, `0.1,0.3,0.5` or `beta:2,5`; a sweep `start:stop:step` takes the place of the mix.

    Raises:
        UserError: not a number, outside [0, 1], an empty list, or a distribution or sweep that does not exist.
    """
    if sweep is not None:
        return Mixes(_sweep(sweep))
    if mix.startswith("beta:"):
        a_b = [_number(part, "--mix") for part in mix.removeprefix("beta:").split(",")]
        if len(a_b) != 2 or min(a_b) <= 0:
            raise UserError(f"--mix {mix!r} is no beta distribution: give two positive numbers, such as beta:2,5.")
        return Mixes(beta=(a_b[0], a_b[1]))
    values = [_fraction(part, "--mix") for part in mix.split(",")]
    if len(set(values)) != len(values):
        raise UserError(f"--mix {mix!r} names a mix twice: name each once.")
    return Mixes(tuple(values))


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
