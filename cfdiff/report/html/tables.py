"""Figures of any shape as rows of a table: what `cfdiff evaluate` wrote, and the settings of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_ONLY = ""  # the column of rows that have but one value


@dataclass(frozen=True)
class Cell:
    """A value in words, and its interval and count in small print."""

    value: str
    small: str = ""


_EMPTY = Cell("")


@dataclass(frozen=True)
class Table:
    """A heading, the names of the columns (none for a single one), and (name, cells) rows; a minor one is folded."""

    name: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    minor: bool = False


def evaluation_tables(figures: dict[str, Any]) -> list[Table]:
    """A table for each section of what `cfdiff evaluate` wrote, then one for each other object, and one of the rest.

    A section is {"question", "figures"}. A figure is {"value", "low", "high", "n"}, or several of them by column
    ("all", "flipped") under one label; any other object is unfolded, numbers and words stand as they are, long lists
    are counted. What is in no section is minor, where there are sections.
    """
    sections = {}
    for name, section in figures.get("sections", {}).items():
        notes = {key: value for key, value in section.items() if key not in ("question", "figures", "judge")}
        by = f" by {section['judge']}" if isinstance(section.get("judge"), str) else ""
        sections[section.get("question", name) + by] = {**section.get("figures", {}), **notes}
    others = {key: value for key, value in figures.items() if key != "sections"}
    loose = {key: value for key, value in others.items() if not isinstance(value, dict) or _is_figure(value)}
    rest = {key: value for key, value in others.items() if key not in loose} | {"run": loose}
    found = [_table(_words(name), section) for name, section in sections.items() if section]
    return found + [_table(_words(name), section, bool(sections)) for name, section in rest.items() if section]


def plain(value: Any) -> str:
    """A setting or a figure in words."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
    if isinstance(value, int):
        return f"{value:,}".replace("-", "\N{MINUS SIGN}")
    if isinstance(value, list | tuple):
        short = len(value) <= 6 and not any(isinstance(v, list | dict) for v in value)
        return ", ".join(map(plain, value)) if short else f"{len(value):,} entries"
    return ", ".join(f"{key} {plain(v)}" for key, v in value.items()) if isinstance(value, dict) else str(value)


def interval(low: float, high: float, number: Callable[[Any], str] = plain) -> str:
    """ "low to high"."""
    return f"{number(low)} to {number(high)}"


def _table(name: str, section: dict[str, Any], minor: bool = False) -> Table:
    rows = _rows("", section)
    columns = list(dict.fromkeys(column for _, cells in rows for column in cells))
    titles = [] if columns in ([_ONLY], []) else [_words(column) for column in columns if column != _ONLY]
    shown = [column for column in columns if column != _ONLY] or [_ONLY]
    # What has one value for all columns stands in the first.
    body = [
        (label, [cells.get(c, cells.get(_ONLY, _EMPTY) if k == 0 else _EMPTY) for k, c in enumerate(shown)])
        for label, cells in rows
    ]
    return Table(name[:1].upper() + name[1:], titles, body, minor)


def _rows(prefix: str, section: dict[str, Any]) -> list[tuple[str, dict[str, Cell]]]:
    rows: list[tuple[str, dict[str, Cell]]] = []
    for key, value in section.items():
        label = prefix + _words(key)
        if key.endswith("_95") and key[:-3] in section:
            continue
        if not isinstance(value, dict):
            span = section.get(f"{key}_95")
            rows.append((label, {_ONLY: Cell(plain(value), interval(*span) if span else "")}))
        elif _is_figure(value):
            number = "{:.1%}".format if value.get("unit") == "share" else plain
            columns = {_ONLY: value} if _is_entry(value) else value
            cells = {k: _cell(v, number) for k, v in columns.items() if isinstance(v, dict) and _is_entry(v)}
            better = {"higher": " \N{UPWARDS ARROW}", "lower": " \N{DOWNWARDS ARROW}"}.get(
                value.get("better") or "", ""
            )
            rows.append((prefix + str(value.get("label", _words(key))) + better, cells))
        else:
            rows += _rows(f"{label}: ", value)
    return rows


def _is_entry(value: dict[str, Any]) -> bool:
    return "value" in value and not isinstance(value["value"], dict)


def _is_figure(value: dict[str, Any]) -> bool:
    return _is_entry(value) or any(isinstance(v, dict) and _is_entry(v) for v in value.values())


def _cell(entry: dict[str, Any], number: Callable[[Any], str]) -> Cell:
    if entry["value"] is None:
        return Cell(plain(None))
    low, high = entry.get("low"), entry.get("high")
    parts = [] if low is None or high is None else [interval(low, high, number)]
    parts += [] if entry.get("n") is None else [f"n = {plain(entry['n'])}"]
    return Cell(number(entry["value"]), ", ".join(parts))


def _words(key: str) -> str:
    return key.replace("_", " ")
