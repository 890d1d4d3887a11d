"""What `cfdiff doctor` says: a line a check."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Line:
    """What one check found.

    Attributes:
        name: of the check.
        status: "fail" means that results would be wrong or that there would be none.
        figure: what was measured, in words.
        advice: what to do; empty where all is well.
        values: the numbers behind `figure`, for programs.
    """

    name: str
    status: Status
    figure: str
    advice: str = ""
    values: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The line as JSON has it, which knows no infinity."""
        values = {key: value if math.isfinite(value) else None for key, value in self.values.items()}
        return {**asdict(self), "values": values}


@dataclass(frozen=True, repr=False)
class Report:
    """What all checks found.

    Attributes:
        data: name of the data; None where they could not be opened.
        images: how many were looked at.
    """

    data: str | None
    images: int
    lines: tuple[Line, ...]

    @property
    def counts(self) -> dict[Status, int]:
        """Lines by status."""
        kinds: tuple[Status, ...] = ("ok", "warn", "fail")
        return {status: sum(line.status == status for line in self.lines) for status in kinds}

    @property
    def failed(self) -> list[Line]:
        """The lines that say fail."""
        return [line for line in self.lines if line.status == "fail"]

    def __getitem__(self, name: str) -> Line:
        """The first line of that name: `report["trial edit"].figure`."""
        found = next((line for line in self.lines if line.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        lines = [line.as_json() for line in self.lines]
        return {"data": self.data, "images": self.images, "lines": lines, "counts": self.counts}

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items())
        said = (f"  {li.status:4} {li.name}: {li.figure}{' -> ' * bool(li.advice)}{li.advice}" for li in self.lines)
        return "\n".join([f"Report of {self.data or 'no data'}, {self.images} images: {counts}", *said])
