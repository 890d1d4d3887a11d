"""Figures of any shape as rows of a table: what `cfdiff evaluate` wrote, and the settings of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A heading, the names of the columns (none for a single one), and (name, cells) rows."""

    name: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def evaluation_tables(figures: dict[str, Any]) -> list[Table]:
    """A table for each section of a JSON object, and one for what stands in no section.

    A figure is {"value", "low", "high", "n"}, or several of them by column ("all", "flipped") under one label; any
    other object is unfolded, numbers and words stand as they are, and a long list is only counted.
    """
    loose = {key: value for key, value in figures.items() if not isinstance(value, dict) or _is_figure(value)}
    sections = {"Run": loose} | {key: value for key, value in figures.items() if key not in loose}
    return [_table(_words(name), section) for name, section in sections.items() if section]


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


def interval(low: float, high: float, number: Any = plain) -> str:
    """ "low to high"."""
    return f"{number(low)} to {number(high)}"


def _table(name: str, section: dict[str, Any]) -> Table:
    rows = _rows("", section)
    columns = list(dict.fromkeys(column for _, cells in rows for column in cells))
    body = [(label, [cells.get(column, "") for column in columns]) for label, cells in rows]
    return Table(name, [] if columns == ["value"] else ["" if c == "value" else _words(c) for c in columns], body)


def _rows(prefix: str, section: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    rows: list[tuple[str, dict[str, str]]] = []
    for key, value in section.items():
        label = prefix + _words(key)
        if key.endswith("_95") and key[:-3] in section:
            continue
        if not isinstance(value, dict):
            span = section.get(f"{key}_95")
            rows.append((label, {"value": plain(value) + (f" [{interval(*span)}]" if span else "")}))
        elif _is_entry(value):
            rows.append((label, {"value": _entry(value)}))
        elif _is_figure(value):
            cells = {k: _entry(v) for k, v in value.items() if isinstance(v, dict) and _is_entry(v)}
            rows.append((prefix + str(value.get("label", _words(key))), cells))
        else:
            rows += _rows(f"{label}: ", value)
    return rows


def _is_entry(value: dict[str, Any]) -> bool:
    return "value" in value and not isinstance(value["value"], dict)


def _is_figure(value: dict[str, Any]) -> bool:
    return _is_entry(value) or any(isinstance(v, dict) and _is_entry(v) for v in value.values())


def _entry(entry: dict[str, Any]) -> str:
    low, high = entry.get("low"), entry.get("high")
    span = "" if low is None or high is None else f" [{interval(low, high)}]"
    count = f" (n = {plain(entry['n'])})" if entry.get("n") is not None else ""
    return plain(entry["value"]) + span + count


def _words(key: str) -> str:
    return key.replace("_", " ")
