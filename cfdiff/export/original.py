"""A file that images of a run came from, which the writers of each kind take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cfdiff.data.readers.reading import Reading


@dataclass(frozen=True)
class Original:
    """A file that images of a run came from.

    Attributes:
        name: its path relative to the data, as ids have it.
        rows, places: of its images, in the result and in the file.
    """

    path: Path
    name: str
    reading: Reading
    rows: list[int]
    places: list[int]

    @property
    def target(self) -> str:
        """`name` as a path that stays within a folder, whatever it begins with or climbs out of."""
        parts = [part for part in PurePosixPath(self.name).parts if part not in ("..", "/")]
        return str(PurePosixPath(*parts))
