"""What `cfdiff supervise` returns and writes beside the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from cfdiff.files import atomic
from cfdiff.metrics.intervals import Interval
from cfdiff.train.result import TrainResult


@dataclass(frozen=True)
class Recall:
    """Of `n` images of a class, the share that is recognised, in [0, 1], with its 95 % interval."""

    n: int
    share: float
    interval: Interval


@dataclass(frozen=True)
class Measured:
    """How good a classifier is on images that it did not learn from.

    Attributes:
        n: images.
        over: what the intervals are over, "groups" or "images".
        accuracy: balanced, in [0, 1]; interval: its 95 % interval, None for fewer than two images.
        recalls: name of the class -> its recall.
    """

    n: int
    over: str
    accuracy: float
    interval: Interval | None
    recalls: dict[str, Recall]


@dataclass(frozen=True)
class SuperviseResult:
    """A trained classifier.

    Attributes:
        training: the model file and its last validation.
        pairs: what became of how many pairs, in words; None of plain training.
        test: how good it is on the test split; None where the data has none.
    """

    training: TrainResult
    pairs: dict[str, int] | None
    test: Measured | None

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints and test.json holds; the model by its name, not where it lies."""
        return {
            "model": self.training.model.name,
            "training": self.training.figures(),
            "pairs": self.pairs,
            "test": None if self.test is None else asdict(self.test),
        }

    def rows(self) -> Iterator[tuple[str, str]]:
        """What is shown of it: a name and a figure each."""
        yield "model", str(self.training.model)
        if self.pairs is not None:
            yield "pairs", ", ".join(f"{count} {why}" for why, count in self.pairs.items() if count)
        if self.training.val_accuracy is not None:
            yield "balanced accuracy, validation", f"{self.training.val_accuracy:.1%}"
        if self.test is not None:
            shown = f"{self.test.accuracy:.1%}{_within(self.test.interval)}"
            yield "balanced accuracy, test", f"{shown}, {self.test.n} images, intervals over {self.test.over}"
            for name, recall in self.test.recalls.items():
                yield f"recall of {name}", f"{recall.share:.1%}{_within(recall.interval)}"


def write_result(result: SuperviseResult) -> None:
    """Write it as test.json beside the model."""
    with atomic(result.training.model.parent / "test.json") as scratch:
        scratch.write_text(json.dumps(result.as_json(), indent=2) + "\n")


def _within(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval[0]:.1%}-{interval[1]:.1%})"
