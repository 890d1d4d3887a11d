"""What the owner of a run sees of its images and models: a worker on another machine must see the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cfdiff.data.source import Source
from cfdiff.edit.cast import Cast
from cfdiff.errors import UserError


@dataclass(frozen=True)
class Sight:
    """`images`: sha256 of the ids in order and the shape; `models`: role -> sha256 of its files.

    The pixels are not compared: that would have every worker read all of them.
    """

    images: str
    models: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, source: Source, cast: Cast) -> Sight:
        """What is seen here."""
        told = "\0".join([str(source.shape), str(source.dtype), *map(str, source.ids.tolist())])
        digest = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
        return cls(digest, tuple(sorted(cast.hashes.items())))

    def check(self, source: Source, cast: Cast) -> None:
        """Raise UserError where a worker sees other images or other models."""
        mine = Sight.of(source, cast)
        what = "images" if mine.images != self.images else "models" if mine.models != self.models else None
        if what is not None:
            raise UserError(
                f"A worker sees other {what} than the process that started the run: give --data and --weights on "
                "storage that all machines share."
            )
