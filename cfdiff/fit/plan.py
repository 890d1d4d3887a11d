"""What a fit does in which order, and how its time is shared out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cfdiff.roles import nth

SECOND = nth("verifier", 1)
Precision = Literal["no", "bf16"]
"""Autocast of the networks while they train."""
OF_CLASSES = ("guide", "checker", "verifier", SECOND, "judge")
TRAININGS = ("diffusion", *OF_CLASSES)
SHARES: Mapping[str, float] = {
    "diffusion": 0.43,
    "guide": 0.14,
    "checker": 0.07,
    "verifier": 0.05,
    SECOND: 0.05,
    "judge": 0.07,
    "doctor": 0.02,
    "tune": 0.11,
    "show": 0.06,
}
"""Share of the time of each stage. The diffusion model needs most: its error is in every edit, while a classifier of
small images stops improving early; the guide needs more than the others, as it must know every noise level. What fools
one verifier seldom fools another that was trained apart: of 48 validation radiographs to pneumonia that one accepted an
independent judge took 95.8 %, of those that two accept, averaged, 100 %, at a change of .059 in place of .054."""

MORE: Mapping[str, Mapping[str, float]] = {"latent": {"autoencoder": 0.15}}
"""Space -> what comes before all else there, and its share; the others share the rest."""

LEAST = 0.1
"""Of its share a stage gets this much in any case, however much those before it took too much."""


def shares_of(space: str) -> Mapping[str, float]:
    """The stages of a fit in a space, in order, and the share of the time of each."""
    more = MORE.get(space, {})
    rest = 1 - sum(more.values())
    return {**more, **{name: share * rest for name, share in SHARES.items()}}


def trainings(space: str) -> tuple[str, ...]:
    """What is trained of a fit in a space, in order."""
    return (*MORE.get(space, {}), *TRAININGS)


@dataclass(frozen=True)
class Clock:
    """Seconds: what all may take, and what each stage took so far, this one included; the shares of `shares_of`."""

    limit: float
    used: Mapping[str, float]
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)

    @property
    def elapsed(self) -> float:
        """Seconds of all stages so far, over all parts of a fit that was stopped."""
        return sum(self.used.values())

    def allotted(self, stage: str) -> float:
        """Seconds that a stage may take in all: its share of what the stages before it left.

        What one stage leaves goes to all that follow, in proportion; so does what one takes too much.
        """
        shares, stages = self.shares, list(self.shares)
        later = stages[stages.index(stage) :]
        before = sum(self.used.get(name, 0.0) for name in stages if name not in later)
        left = max(0.0, self.limit - before) * shares[stage] / sum(shares[name] for name in later)
        return max(left, LEAST * shares[stage] * self.limit)
