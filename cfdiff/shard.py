"""A share of a run, for job arrays: number 3 of 100 does the third hundredth of the pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Number `number` (from 1) of `of`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that "3/100" names.

        Raises:
            ValueError: it names none, in words that end a sentence.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None:
            raise ValueError("a shard is a number of how many, as 3/100")
        number, of = map(int, found.groups())
        if not 1 <= number <= of:
            raise ValueError(f"the shards of {of} are 1/{of} to {of}/{of}: where an array counts from 0, add 1")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def share(self, pieces: Sequence[T]) -> list[T]:
        """Its pieces: neighbours, as they are read from the same files; together the shards have each piece once."""
        first, last = (len(pieces) * k // self.of for k in (self.number - 1, self.number))
        return list(pieces[first:last])

    def of_piece(self, place: int, count: int) -> Shard:
        """The shard of the same array that has piece `place` (from 0) of `count`."""
        return Shard(((place + 1) * self.of - 1) // count + 1, self.of)


@dataclass(frozen=True, repr=False)
class ShardSummary:
    """What a finished shard did or found done; `print(summary)` says it.

    Attributes:
        result: the file's name that a join makes.
        pieces: parts of the result, or bags.
        images: in them; None where a piece is a bag.
        batch_size, batch_size_because: images at once, and why so many where that was found by itself.
        remote: where the parts lie too; None for nowhere.
    """

    result: str
    shard: Shard
    pieces: int
    images: int | None = None
    batch_size: int | None = None
    batch_size_because: str | None = None
    remote: str | None = None

    @property
    def title(self) -> str:
        """What it is, in words."""
        return f"shard {self.shard.number} of {self.shard.of}"

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        told = {"result": self.result, "shard": str(self.shard), "pieces": self.pieces, "images": self.images}
        batch = {"batch_size": self.batch_size, "batch_size_because": self.batch_size_because}
        return told | batch | {"complete": False}

    def rows(self) -> list[tuple[str, str]]:
        """Names and values as one reads them."""
        done = f"{self.pieces:,}" + ("" if self.images is None else f" ({self.images:,} images)")
        join = f"cfdiff join {self.result}" + ("" if self.remote is None else f" --remote {self.remote}")
        return [("result", self.result), ("pieces done", done), ("when all shards are", join)]

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join([self.title, *(f"  {name:{width}}  {value}" for name, value in rows)])
