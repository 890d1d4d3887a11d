"""What `cfdiff mil evaluate` and `explain` return."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cfdiff.mil.dose import Point
from cfdiff.mil.measure import Measured


@dataclass(frozen=True)
class MilEvaluation:
    """How good a bag model is on real bags of patients that it does not know.

    Attributes:
        model, data, split: what was measured, on what.
        target: what the model says of a bag.
        bags, positive, groups: bags, positive ones, patients.
        figures: name -> figure, with 95 % intervals over patients.
        notes: sentences on what was left out.
    """

    model: str
    data: str
    split: str
    target: str
    bags: int
    positive: int
    groups: int
    figures: dict[str, Measured]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self)

    @property
    def title(self) -> str:
        """One line that says of what the figures are."""
        bags = f"{self.bags} bags ({self.positive} positive) of {self.groups} groups"
        return f"{self.model}: {bags}, {self.data} {self.split}"


@dataclass(frozen=True)
class MilExplanation:
    """What a bag model looks at, and how its answer follows the mix.

    Attributes:
        model, data, split, target: as in `MilEvaluation`.
        sweep: the mixes that were made by editing; None where there were none.
        bags: real bags; edited: bags that were edited.
        where: figures of the attributions, against the instance labels.
        dose: figures of the answer over the mix, under edits and under exchanged real instances.
        curve: way -> points of the mean answer, sigmoid(score), over the mix.
        pictures: files that were drawn.
        notes: sentences on what was left out, or could not be measured.
    """

    model: str
    data: str
    split: str
    target: str
    sweep: str | None
    bags: int
    edited: int
    where: dict[str, Measured]
    dose: dict[str, Measured]
    curve: dict[str, list[Point]]
    pictures: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self) | {"pictures": [path.name for path in self.pictures]}

    @property
    def title(self) -> str:
        """One line that says of what the figures are."""
        edits = "" if self.sweep is None else f", {self.edited} edited ({self.sweep})"
        return f"{self.model}: {self.bags} real bags of {self.data} {self.split}{edits}"
