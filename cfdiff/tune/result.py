"""What a search returns: the choice, whether it reaches the goal, and how it does beside the start."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cfdiff.tune.trial import Goal, Values

Between = tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """What some settings do to the images of one direction.

    Attributes:
        images: those that were searched on, or those that the search did not see.
        settings: "start" or "chosen".
        from_: "negative" or "positive", the class started from.
        groups: how many the images are of; None where the intervals are over images.
        flipped_checker: share that the checker gives the margin; `..._95` is an interval, here and below.
        mean_abs_difference: of the saved images, in [0, 1] units; no interval for a single image.
        network_calls: of the diffusion network, an image.
        flipped_judge: share that the judge sees flipped; None where it was not asked.
        change_against_start: difference in mean |difference|, image by image; None where there is nothing to compare.
    """

    images: Literal["tuning", "held-out"]
    settings: Literal["start", "chosen"]
    from_: str
    n: int
    groups: int | None
    intervals_over: Literal["groups", "images"]
    flipped_checker: float
    flipped_checker_95: Between
    mean_abs_difference: float
    mean_abs_difference_95: Between | None
    network_calls: float
    flipped_judge: float | None = None
    flipped_judge_95: Between | None = None
    change_against_start: float | None = None
    change_against_start_95: Between | None = None

    def as_json(self) -> dict[str, Any]:
        """With "from", and without what was not measured."""
        absent = {name for name in ("flipped_judge", "change_against_start") if getattr(self, name) is None}
        absent |= {f"{name}_95" for name in absent}
        return {key.rstrip("_"): value for key, value in asdict(self).items() if key not in absent}


@dataclass(frozen=True, repr=False)
class TuneResult:
    """A finished search.

    Attributes:
        config, plot: the files that were written.
        models: role -> sha256.
        reached: whether the choice reaches the goal on the tuning images.
        trials, complete: settings that were tried, and of them those on all images.
        start, chosen: values of the tuned settings.
        held_out_by: "groups" where no patient (slide, ...) is in both halves, else "images".
        warnings: what to know before one uses the choice.
    """

    config: Path
    plot: Path
    data: str
    data_sha256: str
    models: dict[str, str]
    goal: Goal
    reached: bool
    trials: int
    complete: int
    start: Values
    chosen: Values
    held_out_by: Literal["groups", "images"]
    comparison: tuple[Measured, ...]
    warnings: tuple[str, ...] = ()

    def of(self, images: Literal["tuning", "held-out"], settings: Literal["start", "chosen"]) -> dict[str, Measured]:
        """Direction -> what these settings do to these images."""
        return {row.from_: row for row in self.comparison if (row.images, row.settings) == (images, settings)}

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints: names of files, no folders."""
        return {
            "out": self.config.name,
            "data": self.data,
            "data_sha256": self.data_sha256,
            "models": self.models,
            "goal": {**asdict(self.goal), "reached": self.reached},
            "trials": self.trials,
            "complete": self.complete,
            "start": self.start,
            "chosen": self.chosen,
            "held_out_by": self.held_out_by,
            "comparison": [row.as_json() for row in self.comparison],
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.chosen.items())
        lines = [f"TuneResult: {values}, of {self.trials} trials; goal {'' if self.reached else 'not '}reached"]
        lines += [
            f"  {row.images}, from {row.from_}, {row.settings}, n = {row.n}: "
            f"flipped {row.flipped_checker:.1%} (checker)"
            + ("" if row.flipped_judge is None else f", {row.flipped_judge:.1%} (judge)")
            + f", mean |difference| {row.mean_abs_difference:.4f}, {row.network_calls:.1f} calls"
            for row in self.comparison
        ]
        return "\n".join([*lines, f"  written to {self.config}", *(f"  warning: {words}" for words in self.warnings)])
