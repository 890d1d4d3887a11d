"""What a search returns: the choice, whether it reaches the goal, how it does beside the start, and the front."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cfdiff.edit.recipe import NAMES
from cfdiff.tune.trial import Goal, Values

Between = tuple[float, float]
Which = Literal["start", "chosen"]
DecidedBy = Literal["verifier", "checker"]


@dataclass(frozen=True)
class Measured:
    """What some settings do to the images of one direction.

    Attributes:
        images: those that were searched on, or those that the search did not see.
        settings: "start" or "chosen".
        from_: "negative" or "positive", the class started from.
        groups: how many the images are of; None where the intervals are over images.
        decided_by: the verifier, or without one the checker, which steers as well.
        flipped: share that it gives the margin; `..._95` is an interval, here and below.
        mean_abs_difference: of the saved images, in [0, 1] units; no interval for a single image.
        network_calls: of the diffusion network, an image.
        flipped_checker: share that the checker gives the margin, where the verifier decides; else None.
        flipped_judge: share that the judge sees flipped; None where it was not asked.
        change_against_start: difference in mean |difference|, image by image; None where there is nothing to compare.
    """

    images: Literal["tuning", "held-out"]
    settings: Which
    from_: str
    n: int
    groups: int | None
    intervals_over: Literal["groups", "images"]
    decided_by: DecidedBy
    flipped: float
    flipped_95: Between
    mean_abs_difference: float
    mean_abs_difference_95: Between | None
    network_calls: float
    flipped_checker: float | None = None
    flipped_checker_95: Between | None = None
    flipped_judge: float | None = None
    flipped_judge_95: Between | None = None
    change_against_start: float | None = None
    change_against_start_95: Between | None = None

    @property
    def verdicts(self) -> dict[str, tuple[float, Between]]:
        """Verifier, checker, judge, as far as they were asked: share of flips, and its interval."""
        found: dict[str, tuple[float, Between]] = {self.decided_by: (self.flipped, self.flipped_95)}
        for who in ("checker", "judge"):
            share, between = getattr(self, f"flipped_{who}"), getattr(self, f"flipped_{who}_95")
            found |= {} if share is None else {who: (share, between)}
        return found

    def as_json(self) -> dict[str, Any]:
        """With "from", and without what was not measured."""
        optional = ("flipped_checker", "flipped_judge", "change_against_start")
        absent = {name for name in optional if getattr(self, name) is None}
        absent |= {f"{name}_95" for name in absent}
        return {key.rstrip("_"): value for key, value in asdict(self).items() if key not in absent}


@dataclass(frozen=True)
class Member:
    """A trial of the Pareto front, on the images that were searched on; each figure is of the worse direction.

    Attributes:
        k: its number in the front, from 1; `cfdiff tune --pick K` writes it.
        trial: its number in the search; 0 is the start.
        flipped: share that flips; `flipped_95` is an interval, over groups where there are groups.
        change, calls: mean |difference| in [0, 1] units, and network calls an image.
        price: what the search made small (`cfdiff.tune.trial.price`).
        reached: whether it reaches the goal.
    """

    k: int
    trial: int
    values: Values
    flipped: float
    flipped_95: Between
    change: float
    calls: float
    price: float
    reached: bool


@dataclass(frozen=True, repr=False)
class TuneResult:
    """A finished search.

    Attributes:
        config, plot: the files that were written.
        models: role -> sha256.
        decided_by: who says whether an image flipped: the verifier, or without one the checker, which steers as well.
        reached: whether the choice reaches the goal on the tuning images.
        trials, complete: settings that were tried, and of them those on all images.
        started_from: the defaults, the recipe of the weights, or settings that were given.
        start, chosen: values of the tuned settings.
        trial: number of the chosen one in the search; 0 is the start.
        held: settings that were not tuned and are no defaults: the chosen ones hold with them.
        front: what no trial beats in flips, change and calls at once.
        picked: the member of the front that was asked for in place of the choice of the search; None for that.
        held_out_by: "groups" where no patient (slide, ...) is in both halves, else "images".
        warnings: what to know before one uses the choice.
        pace: seconds of an edit for each call of the network, as the trials took; None where all were in the log.
    """

    config: Path
    plot: Path
    data: str
    data_sha256: str
    models: dict[str, str]
    decided_by: DecidedBy
    goal: Goal
    reached: bool
    trials: int
    complete: int
    started_from: Literal["default", "recipe", "given"]
    start: Values
    chosen: Values
    trial: int
    held: dict[str, Any]
    front: tuple[Member, ...]
    held_out_by: Literal["groups", "images"]
    comparison: tuple[Measured, ...]
    picked: int | None = None
    warnings: tuple[str, ...] = ()
    pace: float | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        """All settings that the config holds, and that a recipe of these models should hold."""
        return {**self.chosen, **self.held}

    @property
    def is_recipe(self) -> bool:
        """Whether the config is where the models beside it have their recipe."""
        return self.config.name in NAMES

    def of(self, images: Literal["tuning", "held-out"], settings: Which) -> dict[str, Measured]:
        """Direction -> what these settings do to these images."""
        return {row.from_: row for row in self.comparison if (row.images, row.settings) == (images, settings)}

    def seconds_per_image(self, start: str) -> float | None:
        """What an edit from that class takes with the chosen settings, nearly; None where none was timed."""
        calls = self.of("tuning", "chosen")[start].network_calls
        return None if self.pace is None else self.pace * calls

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints: names of files, no folders."""
        return {
            "out": self.config.name,
            "data": self.data,
            "data_sha256": self.data_sha256,
            "models": self.models,
            "decided_by": self.decided_by,
            "goal": {**asdict(self.goal), "reached": self.reached},
            "trials": self.trials,
            "complete": self.complete,
            "started_from": self.started_from,
            "start": self.start,
            "chosen": self.chosen,
            "trial": self.trial,
            "held": self.held,
            "picked": self.picked,
            "front": [asdict(member) for member in self.front],
            "held_out_by": self.held_out_by,
            "comparison": [row.as_json() for row in self.comparison],
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.chosen.items())
        lines = [f"TuneResult: {values}, of {self.trials} trials; goal {'' if self.reached else 'not '}reached"]
        for row in self.comparison:
            flipped = ", ".join(f"{share:.1%} ({who})" for who, (share, _) in row.verdicts.items())
            lines.append(
                f"  {row.images}, from {row.from_}, {row.settings}, n = {row.n}: flipped {flipped}, "
                f"mean |difference| {row.mean_abs_difference:.4f}, {row.network_calls:.1f} calls"
            )
        return "\n".join([*lines, f"  written to {self.config}", *(f"  warning: {words}" for words in self.warnings)])
