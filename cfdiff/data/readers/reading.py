"""`--reading`: how files of the clinic and the microscope become images, "window=40/400" or "tile=256,um=0.5"."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from cfdiff.errors import UserError

AXES = ("axial", "coronal", "sagittal")
MOST = 1e30
"""The largest value of a window: float32, in which it is applied, ends at 3e38."""
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


@dataclass(frozen=True)
class Window:
    """The values that become black and white.

    Attributes:
        low, high: as they were said: centre and width of DICOM's linear window where `centred`, else black and white,
            in percent of the values of a volume where `percent`.
    """

    low: float
    high: float
    centred: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Slices:
    """Which slices, `start:stop:step` of Python; start and stop in percent of their number where `percent`."""

    start: float | None
    stop: float | None
    step: int
    percent: bool

    def of(self, n: int) -> range:
        """The places among n slices."""
        ends = [None if v is None else round(v / 100 * n) if self.percent else int(v) for v in (self.start, self.stop)]
        return range(n)[slice(ends[0], ends[1], self.step)]


@dataclass(frozen=True)
class Reading:
    """What `--reading` may say; None is as the file says, or as the documentation says of the kind of file.

    Attributes:
        window: a `Window`, or "full", all that the type of the file can hold.
        axis: which slices of a volume, of `AXES`.
        slices: which of them.
        volume: which one, where a file holds several.
        tile: pixels of a side of a tile of a slide.
        um: micrometres a pixel of a tile; 0 is as scanned.
        tissue: share of a tile that must be tissue, 0 to 1.
    """

    window: Window | str | None = None
    axis: str | None = None
    slices: Slices | None = None
    volume: int | None = None
    tile: int | None = None
    um: float | None = None
    tissue: float | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """The keys that were given."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)


AS_IT_SAYS = Reading()


def parse_reading(text: str | None) -> Reading:
    """`key=value,key=value` as a Reading; UserError says what there is for a key or a value that is none."""
    given: dict[str, Any] = {}
    for part in [] if text is None else text.split(","):
        key, _, value = (word.strip() for word in part.partition("="))
        if key not in KEYS:
            raise UserError(f"--reading has no {key!r}: write key=value with {', '.join(KEYS)}, and commas between.")
        if key in given:
            raise UserError(f"--reading says {key} twice: say it once.")
        parse, form = KEYS[key]
        try:
            given[key] = parse(value)
        except ValueError as error:
            raise UserError(f"--reading {key}={value} is not possible: {form}.") from error
    return Reading(**given)


def _window(value: str) -> Window | str:
    if value == "full":
        return value
    if found := re.fullmatch(rf"({NUMBER})/({NUMBER})", value):
        centre, width = map(float, found.groups())
        if not (abs(centre) <= MOST and 1 < width <= MOST):
            raise ValueError
        return Window(centre, width, centred=True)
    found = re.fullmatch(rf"({NUMBER})(%?):({NUMBER})(%?)", value)
    if found is None or found[2] != found[4]:
        raise ValueError
    low, high, percent = float(found[1]), float(found[3]), found[2] == "%"
    if not -MOST <= low < high <= MOST or (percent and not 0 <= low < high <= 100):
        raise ValueError
    return Window(low, high, percent=percent)


def _axis(value: str) -> str:
    if value not in AXES:
        raise ValueError
    return value


def _slices(value: str) -> Slices:
    found = re.fullmatch(r"(\d*)(%?):(\d*)(%?)(?::(\d+))?", value)
    if found is None or int(found[5] or 1) < 1:
        raise ValueError
    start, stop = (float(end) if end else None for end in (found[1], found[3]))
    signs = {sign for end, sign in ((found[1], found[2]), (found[3], found[4])) if end or sign}
    if len(signs) > 1 or (signs == {"%"} and max(start or 0, stop or 0) > 100):
        raise ValueError
    return Slices(start, stop, int(found[5] or 1), signs == {"%"})


def _within(kind: Callable[[str], Any], low: float, high: float) -> Callable[[str], Any]:
    def parse(value: str) -> Any:
        number = kind(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return parse


def _um(value: str) -> float:
    return 0.0 if value == "native" else _within(float, 0.01, 100)(value)


KEYS: dict[str, tuple[Callable[[str], Any], str]] = {
    "window": (
        _window,
        "give CENTRE/WIDTH (40/400), BLACK:WHITE (-160:240), both in percent of a volume's values (1%:99%), or full",
    ),
    "axis": (_axis, f"choose of {', '.join(AXES)}"),
    "slices": (_slices, "give START:STOP or START:STOP:STEP, as 40:120, 25%:75% or ::5"),
    "volume": (_within(int, 0, 10**6), "give the number of a volume, from 0"),
    "tile": (_within(int, 8, 4096), "give the pixels of a side, 8 to 4096"),
    "um": (_um, "give the micrometres a pixel, as 0.5 (20x), or native"),
    "tissue": (_within(float, 0, 1), "give a share from 0 to 1"),
}
"""Key -> what reads its value, and what to write."""
