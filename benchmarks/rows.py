"""Results that grow: a benchmark that is run in parts adds its rows to those that its file holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Rows:
    """The rows of a result file, one a key.

    Attributes:
        told: what is the same of all rows, and stands once in the file: the benchmark's name, its settings.
        rows: those that the file held, in their order, and those that were put since.
    """

    def __init__(self, path: Path | None, told: Mapping[str, Any], key: Sequence[str]) -> None:
        """Open a file, which need not be there; without one the rows are only held.

        Raises:
            SystemExit: its rows are of other settings, and no mean of ours may stand beside them.
        """
        self.path, self.told, self.key = path, dict(told), tuple(key)
        self.rows: list[dict[str, Any]] = []
        if path is not None and path.exists():
            held = json.loads(path.read_text())
            self.rows = held.pop("rows")
            if held != json.loads(json.dumps(self.told)):
                raise SystemExit(f"{path} holds rows of other settings, {held} and not {self.told}: name another file.")

    def put(self, *rows: dict[str, Any]) -> None:
        """Add rows, each in the place of one with the same key, and write all."""
        for row in rows:
            places = [i for i, other in enumerate(self.rows) if self._name(other) == self._name(row)]
            if places:
                self.rows[places[0]] = row
            else:
                self.rows.append(row)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({**self.told, "rows": self.rows}, indent=1) + "\n")

    def _name(self, row: Mapping[str, Any]) -> list[Any]:
        return [row.get(key) for key in self.key]


def same(path: Path, told: Mapping[str, Any]) -> None:
    """Write down in a folder of its own what a benchmark's work is made with, for whoever goes on with it.

    Raises:
        SystemExit: it was made with other settings, or does not say with which.
    """
    mine = json.loads(json.dumps(told, default=str))
    others = [one.name for one in path.parent.iterdir() if one != path]
    if not path.exists():
        if others:
            raise SystemExit(f"{path.parent} does not say what its files were made with: name a new folder.")
        path.write_text(json.dumps(mine, indent=1) + "\n")
    theirs = json.loads(path.read_text())
    if other := [name for name in {**mine, **theirs} if theirs.get(name) != mine.get(name)]:
        raise SystemExit(f"{path.parent} was made with another {other[0]} ({theirs.get(other[0])}): name a new folder.")
