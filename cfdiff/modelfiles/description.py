"""What is in a model file or folder, in words and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Description:
    """What `cfdiff models inspect` finds. What the file does not say is None or empty.

    Attributes:
        name: of the file or folder; format: a name of registry.INSPECTIONS.
        kind: diffusion, noisy-classifier or clean-classifier, and of a checkpoint what it would become.
        network: its architecture.
        image: (H, W, C) of the images; sees: (h, w, c) of what the network gets, where that is not the images.
        parameters: how many numbers; bytes: of the weights on disk; types: of the numbers, such as F16.
        sha256: as a result stores it.
        schedule: config of its noise, without long lists; parametrisation, learned_sigma: what its output is.
        space: where a diffusion model or its guide runs; None is pixels.
        condition: what it may be told, and told_nothing whether it may be told nothing.
        labels: how many classes of its own it has, where they are not just ours.
        data: what it learned from: name, images, groups, classes.
        figures: of its last validation.
        made: how, and by which version: steps, minutes, or the checkpoint that it was made of.
        advice: what to do before it can be used.
    """

    name: str
    format: str
    kind: str
    network: str
    image: list[int] | None
    parameters: int
    bytes: int
    types: list[str]
    sha256: str
    sees: list[int] | None = None
    schedule: dict[str, Any] | None = None
    parametrisation: str | None = None
    learned_sigma: bool | None = None
    space: dict[str, Any] | None = None
    condition: str | None = None
    told_nothing: bool | None = None
    labels: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def rows(self) -> Iterator[tuple[str, str]]:
        """(name, value) of all that is known, as one reads it."""
        yield "kind", f"{self.kind} ({self.format})"
        yield "network", self.network
        if self.image is not None:
            yield "images", _shape(self.image)
        if self.sees is not None:
            yield "the network sees", _shape(self.sees)
        size = f"{self.bytes / 2**20:,.1f} MiB" if self.bytes >= 2**20 else f"{self.bytes / 2**10:,.1f} KiB"
        yield "parameters", f"{self.parameters:,} ({', '.join(self.types)}, {size})"
        if self.schedule:
            yield "noise schedule", _named(self.schedule)
        if self.parametrisation is not None:
            yield "predicts", self.parametrisation + (" and a variance" if self.learned_sigma else "")
            yield "may be told", self._told()
        if self.space is not None or self.parametrisation is not None:
            yield "space", _named(self.space or {"name": "pixel"})
        if self.labels:
            yield "classes of its own", f"{self.labels:,}"
        for name, part in (("data", self.data), ("last validation", self.figures), ("made", self.made)):
            if part:
                yield name, _words(part, "\n")
        yield "sha256", self.sha256
        if self.advice:
            yield "to do", self.advice

    def _told(self) -> str:
        if self.condition is None:
            return "nothing"
        return f"the {self.condition}" + (" or nothing" if self.told_nothing else ", and must be: --base source")


def _shape(shape: list[int]) -> str:
    height, width, channels = shape
    return f"{height}x{width}, {channels} channel{'s' if channels > 1 else ''}"


def _named(part: Mapping[str, Any]) -> str:
    """What has a name, and what it is made with."""
    rest = _words({key: value for key, value in part.items() if key != "name"})
    return ", ".join(word for word in (str(part.get("name")), rest) if word)


def _words(part: Mapping[str, Any], between: str = ", ") -> str:
    def said(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}"
        if isinstance(value, Mapping):
            return _words(value)
        return ", ".join(map(said, value)) if isinstance(value, list | tuple) else str(value)

    return between.join(f"{key} {said(value)}" for key, value in part.items() if value not in (None, [], {}, ""))
