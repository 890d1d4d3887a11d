"""The figures of a finished result: all samples, from the saved values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.values import mean_change
from cfdiff.metrics.intervals import Interval, mean_interval, over, share_interval
from cfdiff.roles import WITNESSES
from cfdiff.store import Result, open_result
from cfdiff.store.recall import Recall


@dataclass(frozen=True, repr=False)
class TranslateSummary:
    """What a result holds; `print(summary)` lists it. Intervals are 95 %.

    Attributes:
        result: the file's name.
        groups: how many the images are of; None for fewer than two.
        intervals_over: "groups" where there are at least two, else "images".
        mean_abs_difference: of saved images, in [0, 1] units.
        network_calls, guide_calls: an image, of the diffusion network, and guided steps.
        retried: share of the images that were tried again.
        quarantined: edits that were not finite; they stand in the result as their sources.
        flipped_judge and so on: share seen as the target afterwards; None without such a model.
        target_before_judge and so on: share seen as the target before.
        seconds_per_image: of this call; None where all was there.
        batch_size, batch_size_because: images at once, and why so many where that was found by itself in this call.
        told: the words of an edit by words; None of another.
        recall: role -> share of real images of the class asked for that it sees as that class; empty where the file
            does not say. A flip rate is to be read beside that of the same model.
    """

    result: str
    direction: str
    images: int
    groups: int | None
    intervals_over: str
    mean_abs_difference: float
    mean_abs_difference_95: Interval | None
    network_calls: float
    guide_calls: float
    retried: float
    quarantined: int
    flipped_judge: float | None = None
    flipped_judge_95: Interval | None = None
    target_before_judge: float | None = None
    flipped_verifier: float | None = None
    flipped_verifier_95: Interval | None = None
    target_before_verifier: float | None = None
    flipped_checker: float | None = None
    flipped_checker_95: Interval | None = None
    target_before_checker: float | None = None
    seconds_per_image: float | None = None
    batch_size: int | None = None
    batch_size_because: str | None = None
    told: str | None = None
    recall: dict[str, Recall] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is, in words."""
        return self.direction

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints; without the figures of a model that there is not, and words that are not."""
        missing = [who for who in WITNESSES if getattr(self, f"flipped_{who}") is None]
        left_out = (*_endings(missing), *(["told"] if self.told is None else []))
        return {name: value for name, value in asdict(self).items() if not name.endswith(left_out)}

    def rows(self) -> list[tuple[str, str]]:
        """Names and values as one reads them."""
        units = "images" if self.groups is None else f"{self.groups} groups"
        words = [] if self.told is None else [("told", self.told)]
        found = [("result", self.result), *words, ("images", str(self.images))]
        for who in WITNESSES:
            share, interval = getattr(self, f"flipped_{who}"), getattr(self, f"flipped_{who}_95")
            if share is not None:
                before = getattr(self, f"target_before_{who}")
                between = f"95 % interval {interval[0]:.1%} to {interval[1]:.1%} over {units}"
                found.append((f"seen as the target by the {who}", f"{share:.1%}  ({between}; before {before:.1%})"))
                if who in self.recall:
                    found.append((f"recall of the {who}", _recall(self.recall[who])))
        between = ""  # a single image has no interval
        if self.mean_abs_difference_95 is not None:
            low, high = self.mean_abs_difference_95
            between = f"95 % interval {low:.4f} to {high:.4f} over {units}; "
        calls = f"{self.network_calls:.1f} of the diffusion network, {self.guide_calls:.1f} guided steps"
        found += [
            ("mean |difference|", f"{self.mean_abs_difference:.4f}  ({between}1 is the full range)"),
            ("retried", f"{self.retried:.1%}"),
            ("calls an image", calls),
        ]
        if self.quarantined:
            found.append(("quarantined", f"{self.quarantined} edits were not finite: see status in the result"))
        if self.batch_size_because is not None:
            found.append(("batch size", f"{self.batch_size}  ({self.batch_size_because})"))
        if self.seconds_per_image is not None:
            found.append(("seconds an image", f"{self.seconds_per_image:.2f}"))
        return found

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join([self.direction, *(f"  {name:{width}}  {value}" for name, value in rows)])


def summarise(path: Path, batch: int = 256) -> TranslateSummary:
    """Images, flips by each classifier with intervals, mean |difference| in [0, 1] units, calls an image."""
    with open_result(path) as r:
        n = len(r)
        groups = r["group"][:] if "group" in r else None
        batches = [slice(i, i + batch) for i in range(0, n, batch)]
        change = np.concatenate([mean_change(r.source[b], r.counterfactual[b]) for b in batches])
        by = over(groups)
        return TranslateSummary(
            result=path.name,
            direction=r.attrs["direction"],
            images=n,
            groups=len(np.unique(groups)) if groups is not None and by == "groups" else None,
            intervals_over=by,
            mean_abs_difference=float(change.mean()),
            mean_abs_difference_95=mean_interval(change, groups, (0, 1)),
            network_calls=float(r["guidance/network_calls"][:].mean()),
            guide_calls=float(r["guidance/guide_calls"][:].mean()),
            retried=float((r["guidance/retries"][:] > 0).mean()),
            quarantined=int(r.quarantined.sum()),
            told=r.told,
            recall=r.recall,
            batch_size=r.settings.get("batch_size"),
            **_seen(r, groups),
        )


def _recall(recall: Recall) -> str:
    between = f"95 % interval {recall.low:.1%} to {recall.high:.1%} over {recall.over}"
    return f"{recall.share:.1%}  ({between}; of {recall.n} real images of the class asked for)"


def _seen(r: Result, groups: np.ndarray | None) -> dict[str, Any]:
    """The verdicts of the classifiers, by the names of the summary."""
    found: dict[str, Any] = {}
    for who in WITNESSES:
        if f"prob/{who}" in r:
            p = r.prob(who)[np.arange(len(r)), :, r["target"][:]]
            flipped = (p[:, 1] > 0.5) & ~r.quarantined
            found[f"flipped_{who}"] = float(flipped.mean())
            found[f"flipped_{who}_95"] = share_interval(flipped, groups)
            found[f"target_before_{who}"] = float((p[:, 0] > 0.5).mean())
    return found


def _endings(who: list[str]) -> tuple[str, ...]:
    return tuple(ending for name in who for ending in (f"_{name}", f"_{name}_95"))
