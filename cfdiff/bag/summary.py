"""Counts and ratios of a finished bag file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.values import mean_change
from cfdiff.metrics.intervals import Interval, mean_interval, share_interval
from cfdiff.store.bags import Bags, open_bags, sha256_of

WORDS = {
    "achieved": "by the judge, on all images",
    "achieved_by_labels": "by labels, the judge where edited",
    "achieved_by_checker": "by labels, the checker where edited",
}


@dataclass(frozen=True)
class Achieved:
    """How near the achieved mixes come to the others, over all pairs of a bag and a mix.

    Attributes:
        mean_off_planned, mean_off_requested: mean |achieved - planned|, |achieved - requested|, in [0, 1].
        exact: share of pairs with exactly the planned count.
    """

    mean_off_planned: float
    mean_off_planned_95: Interval | None
    mean_off_requested: float
    exact: float
    exact_95: Interval

    def __str__(self) -> str:
        low, high = self.exact_95
        return (
            f"mean |achieved - planned| {self.mean_off_planned:.4f}, - requested {self.mean_off_requested:.4f}; "
            f"exact count in {self.exact:.1%} of bags and mixes (95 % interval {low:.1%} to {high:.1%})"
        )


@dataclass(frozen=True, repr=False)
class BagSummary:
    """What a bag file holds; `print(summary)` lists it.

    Intervals are 95 %, over whole bags (of a single one, over its mixes or edits).

    Attributes:
        instances: instances in bags, each once.
        translated, shams: edits, each counted once, however many mixes show it.
        mean_rounding: mean |planned - requested|.
        mean_abs_difference, mean_abs_difference_sham: of the edits and of the shams, in [0, 1] units.
        changed_outside_edits: images that are no edit and not those of the data: always 0.
        achieved, achieved_by_labels, achieved_by_checker: by the judge on all images; by labels, and the judge, or the
            checker, where edited; None where there is no such word.
        judge_error_on_real: bounds what the judge can confirm; None where no label is known.
        flipped_judge: share of the edits that the judge sees as asked.
        seconds_per_bag: of a bag and mix, in this call; None where it was not run.
        batch_size, batch_size_because: images at once, and why so many where that was found by itself in this call.
    """

    result: str
    bags: int
    bags_and_mixes: int
    instances: int
    mode: str
    translated: int
    shams: int
    replaced_failures: int
    mean_rounding: float
    mean_abs_difference: float | None
    mean_abs_difference_sham: float | None
    changed_outside_edits: int
    achieved: Achieved | None = None
    achieved_by_labels: Achieved | None = None
    achieved_by_checker: Achieved | None = None
    judge_error_on_real: float | None = None
    flipped_judge: float | None = None
    flipped_judge_95: Interval | None = None
    seconds_per_bag: float | None = None
    batch_size: int | None = None
    batch_size_because: str | None = None

    @property
    def title(self) -> str:
        """What it is, in words."""
        return f"{self.bags} bags, {self.mode} mode"

    def rows(self) -> list[tuple[str, str]]:
        """Names and values as one reads them."""
        found = [
            ("result", self.result),
            ("instances in bags", str(self.instances)),
            ("bags and mixes", str(self.bags_and_mixes)),
            ("translated", f"{self.translated}  (and {self.replaced_failures} failures, not used)"),
        ]
        if self.mean_abs_difference is not None:
            found.append(("mean |difference| of these", f"{self.mean_abs_difference:.4f}  (1 is the full range)"))
        if self.shams:
            found.append(("shams", f"{self.shams}, mean |difference| {self.mean_abs_difference_sham:.4f}"))
        for name, who in WORDS.items():
            achieved = getattr(self, name)
            if achieved is not None:
                found.append((f"achieved {who}", str(achieved)))
        if self.flipped_judge is not None and self.flipped_judge_95 is not None:
            low, high = self.flipped_judge_95
            between = f"95 % interval {low:.1%} to {high:.1%}"
            found.append(("edits that the judge sees", f"{self.flipped_judge:.1%}, each counted once  ({between})"))
        if self.judge_error_on_real is not None:
            found.append(("judge's error on real instances", f"{self.judge_error_on_real:.1%}"))
        found.append(("changed outside the edits", str(self.changed_outside_edits)))
        if self.batch_size_because is not None:
            found.append(("batch size", f"{self.batch_size}  ({self.batch_size_because})"))
        if self.seconds_per_bag is not None:
            found.append(("seconds a bag and mix", f"{self.seconds_per_bag:.2f}"))
        return found

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        head = f"{self.bags} bags, {self.mode} mode"
        return "\n".join([head, *(f"  {name:{width}}  {value}" for name, value in rows)])

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints; without the judge's and the checker's figures where there is none."""
        unknown = {name for name in WORDS if getattr(self, name) is None}
        if self.achieved is None:
            unknown |= {"judge_error_on_real", "flipped_judge", "flipped_judge_95"}
        return {name: value for name, value in asdict(self).items() if name not in unknown}


def summarise_bags(path: Path, batch: int = 256) -> BagSummary:
    """The summary of a bag file. The mixes of one bag are not independent, nor its edits, so bags are the groups."""
    with open_bags(path) as bags:
        planned, requested = bags.read("mix/planned"), bags.read("mix/requested")
        (real, _), used = bags.edits(), bags.read("edit/used")
        change = _change(bags, real, batch)
        sham = np.unique(bags.read("row/edit")[bags.read("row/sham")])
        return BagSummary(
            result=path.name,
            bags=len(bags.read("bag/name")),
            bags_and_mixes=len(bags),
            instances=len(bags.read("instance/id")),
            mode=bags.settings["mode"],
            batch_size=bags.settings.get("batch_size"),
            translated=len(real),
            shams=len(sham),
            replaced_failures=int((~used & _flips(bags)).sum()),
            mean_rounding=float(np.abs(planned - requested).mean()),
            mean_abs_difference=float(change.mean()) if len(change) else None,
            mean_abs_difference_sham=float(_change(bags, sham, batch).mean()) if len(sham) else None,
            changed_outside_edits=_changed_outside(bags, batch),
            achieved=_achieved(bags, "achieved"),
            achieved_by_labels=_achieved(bags, "achieved_by_labels"),
            achieved_by_checker=_achieved(bags, "achieved_by_checker"),
            **(_judge(bags) if "prob/judge" in bags else {}),
        )


def _achieved(bags: Bags, name: str) -> Achieved | None:
    if f"mix/{name}" not in bags:
        return None
    achieved, of = bags.read(f"mix/{name}"), bags.read("mix/bag")
    off = np.abs(achieved - bags.read("mix/planned"))
    exact = np.rint(off * np.diff(bags.read("mix/offset"))) == 0
    return Achieved(
        mean_off_planned=float(off.mean()),
        mean_off_planned_95=mean_interval(off, of, (0, 1)),
        mean_off_requested=float(np.abs(achieved - bags.read("mix/requested")).mean()),
        exact=float(exact.mean()),
        exact_95=share_interval(exact, of),
    )


def _change(bags: Bags, edits: np.ndarray, batch: int) -> np.ndarray:
    """(len(edits),) mean |difference| of saved images."""
    source = bags.read("edit/source")
    parts = []
    for i in range(0, len(edits), batch):
        here = edits[i : i + batch]
        parts.append(mean_change(bags.images("source", source[here]), bags.images("counterfactual", here)))
    return np.concatenate(parts) if parts else np.empty(0)


def _flips(bags: Bags) -> np.ndarray:
    """(E,) bool: edits to the other class than the image's own, not shams."""
    label = np.zeros(int(bags.read("instance/source").max()) + 1, np.int8)
    label[bags.read("instance/source")] = bags.read("instance/label")
    return bags.read("edit/target") != label[bags.read("edit/source")]


def _changed_outside(bags: Bags, batch: int) -> int:
    """Rows that are no edit and whose image in this file has not the sha256 that the data had: always 0."""
    n = int(bags.read("instance/source").max()) + 1
    parts = (bags.images("source", np.arange(i, min(i + batch, n))) for i in range(0, n, batch))
    stored = np.array([sha256_of(image) for part in parts for image in part])
    instance = bags.read("row/instance")[bags.read("row/edit") < 0]
    asked = bags.read("row/sha256")[bags.read("row/edit") < 0]
    return int((stored[bags.read("instance/source")[instance]] != asked).sum())


def _judge(bags: Bags) -> dict[str, Any]:
    """The judge's own error on real instances, which bounds what it can confirm, and its word on the edited ones."""
    instances, first = np.unique(bags.read("row/instance"), return_index=True)
    assert len(instances) == len(bags.read("instance/id")), "every bag has a mix"
    known = bags.read("instance/label_from") == "data"
    seen = bags.read("prob/judge")[first, 0, 1] > 0.5
    wrong = (seen != (bags.read("instance/label") == 1))[known]
    _, rows = bags.edits()
    agreed = (bags.read("prob/judge")[rows, 1, 1] > 0.5) == (bags.read("row/label")[rows] == 1)
    bag = np.repeat(bags.read("mix/bag"), np.diff(bags.read("mix/offset")))[rows]
    return {
        "judge_error_on_real": float(wrong.mean()) if len(wrong) else None,
        "flipped_judge": float(agreed.mean()) if len(agreed) else None,
        "flipped_judge_95": share_interval(agreed, bag) if len(agreed) else None,
    }
