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
