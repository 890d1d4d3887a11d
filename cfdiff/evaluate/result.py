"""What evaluate returns: figures by section, with attributes, and as the JSON that docs/evaluate.md describes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from cfdiff.metrics.columns import Entry, Figure
from cfdiff.version import __version__

__all__ = [
    "BagsSection",
    "Entry",
    "Evaluation",
    "Figure",
    "JudgeFacts",
    "Mix",
    "OneBag",
    "PairSection",
    "RealisticSection",
    "Section",
    "TwinsOfGroup",
    "WhereSection",
]
FORMAT, FORMAT_VERSION = "cfdiff-evaluation", 1
_ONLY_WHERE_THERE_IS_ONE = ("judge", "not_measured")


@dataclass(frozen=True)
class Section:
    """The figures that answer one question.

    Attributes:
        judge: the classifier whose word the figures are; None where they ask none.
        not_measured: why there are no figures, where there are none.
    """

    question: str
    figures: dict[str, Figure]
    judge: str | None = None
    not_measured: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Question, figures, and what else the section says."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("question", "figures")}
        kept = {k: v for k, v in said.items() if v is not None or k not in _ONLY_WHERE_THERE_IS_ONE}
        return {
            "question": self.question,
            "figures": {name: figure.as_json() for name, figure in self.figures.items()},
            **kept,
        }


@dataclass(frozen=True)
class RealisticSection(Section):
    """With how many real images of which source, and features of which network (sha256 None: timm's own weights)."""

    real_images: int = 0
    reference: str = ""
    features: str = ""
    features_sha256: str | None = None


@dataclass(frozen=True)
class WhereSection(Section):
    """With the rule for empty masks and the thresholds, in [0, 1] units."""

    rule: str = ""
    thresholds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TwinsOfGroup:
    """How near the twins the images of one group came: mean errors in [0, 1], and what part of them was removed."""

    images: int
    error_before: float
    error_after: float
    error_removed: float | None


@dataclass(frozen=True)
class PairSection(Section):
    """With how many images have a twin, and every group of its own."""

    pairs: int = 0
    by_group: dict[str, TwinsOfGroup] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Groups as objects."""
        return {**super().as_json(), "by_group": {name: dict(vars(one)) for name, one in self.by_group.items()}}


@dataclass(frozen=True)
class Mix:
    """One mix of one bag: `achieved` by who says so ("achieved", "achieved_by_labels", ...)."""

    requested: float
    planned: float
    achieved: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """With the errors beside."""
        return {
            "requested": self.requested,
            "planned": self.planned,
            **self.achieved,
            **{f"{k}_off_planned": abs(a - self.planned) for k, a in self.achieved.items()},
            **{f"{k}_off_requested": abs(a - self.requested) for k, a in self.achieved.items()},
        }


@dataclass(frozen=True)
class OneBag:
    """A bag, its mixes, and by who says so the slope of achieved over requested (None: fewer than two mixes)."""

    bag: str
    instances: int
    mixes: tuple[Mix, ...]
    slopes: dict[str, float | None]

    def as_json(self) -> dict[str, Any]:
        """The slopes as keys of their own."""
        slopes = {f"{k}_slope": slope for k, slope in self.slopes.items()}
        return {"bag": self.bag, "instances": self.instances, "mixes": [m.as_json() for m in self.mixes], **slopes}


@dataclass(frozen=True)
class BagsSection(Section):
    """With every bag of its own."""

    bags: tuple[OneBag, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Bags as objects."""
        return {**super().as_json(), "bags": [bag.as_json() for bag in self.bags]}


@dataclass(frozen=True)
class JudgeFacts:
    """Which judge measured, and whether it is the one that judged the run when it was made."""

    name: str
    sha256: str | None
    of_the_run: bool


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Every figure of a run; `print(evaluation)` lists them.

    Attributes:
        images: images measured, of them `flipped` by the word of `flipped_by` (None: nobody can tell).
        groups: how many; None for fewer than two.
        judge: the first of `judges`, whose word `flipped` is.
        settings: those that change a figure.
        sections: "valid", "minimal", ... -> their figures.
    """

    result: str
    result_sha256: str
    direction: str
    classes: tuple[str, ...]
    images: int
    flipped: int | None
    flipped_by: str | None
    groups: int | None
    judge: JudgeFacts | None
    settings: dict[str, Any]
    sections: dict[str, Section]
    judges: tuple[JudgeFacts, ...] = ()

    def __getitem__(self, figure: str) -> Figure:
        """A figure by its name, in whichever section it stands; KeyError names those that there are."""
        for section in self.sections.values():
            if figure in section.figures:
                return section.figures[figure]
        names = (name for section in self.sections.values() for name in section.figures)
        raise KeyError(f"no figure {figure!r}; there are {', '.join(names)}")

    def __repr__(self) -> str:
        lines = [f"{self.result}: {self.direction}, {self.images} images"]
        for section in self.sections.values():
            lines += ["", section.question + ("" if section.judge is None else f" by {section.judge}")]
            lines += [] if section.not_measured is None else [f"  not measured ({section.not_measured})"]
            lines += [f"  {figure}" for figure in section.figures.values()]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints and `--out` writes."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "cfdiff_version": __version__,
            "result": self.result,
            "result_sha256": self.result_sha256,
            "direction": self.direction,
            "classes": list(self.classes),
            "images": self.images,
            "flipped": self.flipped,
            "flipped_by": self.flipped_by,
            "groups": self.groups,
            "judge": None if self.judge is None else dict(vars(self.judge)),
            "judges": [dict(vars(judge)) for judge in self.judges],
            "settings": self.settings,
            "sections": {name: section.as_json() for name, section in self.sections.items()},
        }
