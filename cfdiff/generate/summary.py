"""What a generation came to, from the saved images: cost, class by the judge, and quality, for each number of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.generate.quality import Real, distances, features_of
from cfdiff.metrics.columns import Entry, Figure, entry_of
from cfdiff.metrics.intervals import share_interval
from cfdiff.store.samples import Samples, open_samples

__all__ = ["Figure", "GenerateSummary", "Walk", "walks_of"]


@dataclass(frozen=True)
class Walk:
    """Images of one number of steps.

    Attributes:
        network_calls, guide_calls: an image, of the diffusion network, and guided steps.
        seen: share that the judge sees as the class asked for; where none is, as positive. None without a judge.
        quarantined: images that were not finite.
        figures: fid, kid and those of real against real, by name; empty where they are not measured.
    """

    steps: int
    images: int
    network_calls: float
    guide_calls: float
    seen: Figure | None
    quarantined: int
    figures: dict[str, Figure]

    def as_json(self) -> dict[str, Any]:
        """Figures as objects."""
        plain = {name: getattr(self, name) for name in ("steps", "images", "network_calls", "guide_calls")}
        figures = {name: figure.as_json() for name, figure in self.figures.items()}
        seen = None if self.seen is None else self.seen.as_json()
        return {**plain, "seen": seen, "quarantined": self.quarantined, "figures": figures}


@dataclass(frozen=True, repr=False)
class GenerateSummary:
    """What a file of generated images holds; `print(summary)` lists it.

    Attributes:
        result, picture: the files.
        direction: what was drawn, in words.
        led_by: guides, or "told" where the diffusion model was told the class; "none" for neither.
        walks: one for each number of steps.
        against: the real images of FID and KID, in words; None where these are not measured, and `not_measured` why.
        seconds_per_image: of this call; None where all was there.
    """

    result: Path
    picture: Path
    direction: str
    sampler: str
    led_by: str
    walks: tuple[Walk, ...]
    against: str | None
    not_measured: str | None
    seconds_per_image: float | None = None

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        plain = {name: getattr(self, name) for name in ("direction", "sampler", "led_by", "against", "not_measured")}
        files = {"result": self.result.name, "picture": self.picture.name}
        walks = [walk.as_json() for walk in self.walks]
        return {**files, **plain, "walks": walks, "seconds_per_image": self.seconds_per_image}

    def __repr__(self) -> str:
        lines = [f"{self.result.name}: {self.direction}, {self.sampler}, led by {self.led_by}"]
        for walk in self.walks:
            lines.append(f"  {walk.steps} steps, {walk.network_calls:g} network calls an image")
            figures = [*([walk.seen] if walk.seen is not None else []), *walk.figures.values()]
            lines += [f"    {figure}" for figure in figures]
        if self.not_measured is not None:
            lines.append(f"  FID and KID not measured ({self.not_measured})")
        return "\n".join(lines)


def walks_of(path: Path, real: Real | str, seed: int) -> tuple[Walk, ...]:
    """Each number of steps in a file, measured."""
    with open_samples(path) as samples:
        return tuple(_walk(samples, int(steps), real, seed) for steps in np.unique(samples["steps"][:]))


def _walk(samples: Samples, steps: int, real: Real | str, seed: int) -> Walk:
    rows = np.flatnonzero(samples["steps"][:] == steps)
    status = samples["status"][:]
    good = rows[np.array([word == "ok" for word in status[rows]], bool)]
    figures = {}
    if not isinstance(real, str) and len(good) >= 2:
        figures = distances(real, features_of(real.extract, _pieces(samples, good)), seed)
    return Walk(
        steps,
        len(rows),
        float(samples["network_calls"][:][rows].mean()),
        float(samples["guide_calls"][:][rows].mean()),
        _seen(samples, rows, good),
        len(rows) - len(good),
        figures,
    )


def _pieces(samples: Samples, rows: np.ndarray, size: int = 64) -> Iterator[np.ndarray]:
    return (samples.image[rows[i : i + size]] for i in range(0, len(rows), size))


def _seen(samples: Samples, rows: np.ndarray, good: np.ndarray) -> Figure | None:
    """The judge's word on all images; one that is not finite is seen as nothing."""
    if "prob/judge" not in samples:
        return None
    target = int(samples["target"][:][rows[0]])
    wanted = 1 if target < 0 else target
    hits = (samples["prob/judge"][:][rows, wanted] > 0.5) & np.isin(rows, good)
    name = samples.settings["classes"][wanted]
    entry: Entry = entry_of(float(hits.mean()), share_interval(hits), len(hits), "Wilson over images")
    better = None if target < 0 else "higher"
    return Figure(f"seen as {name} by the judge", better, entry, unit="share")
