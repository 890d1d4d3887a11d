"""What the members of WebDataset's shards say of each image: where its bytes lie, its mask, its class, its columns.

Members come in runs (`tar_runs`), which are looked at as arrays. What is rare in a run (two images of one name, names
that are not ASCII, a text that is none) has the whole run looked at member by member, which finds the words for it.
"""

from __future__ import annotations

from array import array
from collections import Counter
from pathlib import Path

import numpy as np

from cfdiff.data.limits import BYTES_A_NAME, check_memory
from cfdiff.data.readers.shard_words import (
    CLASS,
    IMAGE,
    JSON,
    MASK,
    OTHER,
    Said,
    Words,
    json_of,
    kind_of,
    suffix,
    text_of,
)
from cfdiff.data.readers.tar_index import Member, pieces
from cfdiff.data.readers.tar_names import Odd, contents, parted
from cfdiff.data.readers.tar_runs import Run
from cfdiff.data.readers.tree import SYSTEM
from cfdiff.errors import UserError

_WITHOUT = "names without an image"


class Rows:
    """The images of some shards, in order.

    Attributes:
        at: three integers an image: the number of its shard, the first byte, how many.
        words: column -> what is said; the column "" is the class.
        others: what is not read -> how many.
        several: the first member that names several classes, as a message shows it; None where none does.
    """

    def __init__(self) -> None:
        self.at, self._masks = array("q"), array("q")  # of masks the row as well, as most data has none
        self.words: dict[str, Words] = {}
        self.others: Counter[str] = Counter()
        self.several: str | None = None
        self._alone: list[str] = []  # names without an image in the shard at hand
        self._keys: list[np.ndarray] = []
        self._new: list[str] = []  # the last keys, not yet an array
        self._n = 0

    def keys(self) -> np.ndarray:
        """(N,) str, the names of the images up to the first dot."""
        self._settle()
        # bytes of ASCII take a quarter of the memory until they are put together
        width = max((some.dtype.itemsize // (4 if some.dtype.kind == "U" else 1) for some in self._keys), default=1)
        check_memory(self._n * (4 * width + BYTES_A_NAME), f"The names of {self._n:,} images")
        keys = np.empty(self._n, f"U{width}")
        end = self._n
        while self._keys:  # given back as they are copied
            some = self._keys.pop()
            keys[end - len(some) : end] = some
            end -= len(some)
        self._keys = [keys]
        return keys

    def masks(self) -> np.ndarray:
        """(N, 3) int64, as `at` of the masks; -1 bytes is none."""
        found, none = np.frombuffer(self._masks, np.int64).reshape(-1, 4), np.array([0, 0, -1])
        if not len(found):
            return np.broadcast_to(none, (self._n, 3))
        masks = np.tile(none, (self._n, 1))
        masks[found[:, 0]] = found[:, 1:]
        return masks

    def scan(self, number: int, path: Path) -> None:
        """Note what one shard holds; what belongs to one image stands together, as WebDataset wants it.

        Raises:
            UserError: the archive is damaged, or what it says of an image is.
        """
        image = _Image(self, number, path)
        self._settle()
        before, self._alone = len(self._keys), []
        for piece in pieces(path, path.name):
            if not isinstance(piece, Run):
                image.member(piece)
                continue
            try:
                self._take(piece, image)
            except Odd:
                for member in piece.members():
                    image.member(member)
        image.done()
        self._settle()
        if self._alone and (apart := set(self._alone) & set().union(*(_words(some) for some in self._keys[before:]))):
            raise UserError(
                f"{path.name} does not hold together what is called {min(apart)!r}, as WebDataset does: pack it anew, "
                "sorted by name (tar --sort=name)."
            )

    def alone(self, key: str) -> None:
        """A name without an image."""
        self.others[_WITHOUT] += 1
        self._alone.append(key)

    def note(self, said: Said, member: Member, path: Path) -> dict[str, str]:
        """The words of a JSON; that it names several classes is kept."""
        if said.several and self.several is None:
            self.several = f"{member[0]} in {path.name}"
        return said.words

    def add(self, key: str, number: int, image: tuple[int, int], mask: tuple[int, int], said: dict[str, str]) -> None:
        """One image more, of shard `number`: the first byte and how many, of it and of its mask."""
        for column, text in said.items():
            self.words.setdefault(column, Words()).add(self._n, text)
        self._new.append(key)
        self.at.extend((number, *image))
        if mask[1] >= 0:
            self._masks.extend((self._n, number, *mask))
        self._n += 1

    def _settle(self) -> None:
        if self._new:
            self._keys.append(np.array(self._new))
            self._new = []

    def _take(self, run: Run, open_image: _Image) -> None:
        """A run of members: those of its first and of its last image one by one, as these may go on beyond it.

        Raises:
            Odd: it has what only a look at each member can tell; nothing is noted yet.
        """
        names = parted(run)
        if len(names.begin) < 3:
            raise Odd
        first, last = int(names.begin[1]), int(names.begin[-1])
        members, count = names.members[first:last], len(names.begin) - 2
        kinds = np.array([kind_of(ending.lower()) for ending in names.endings])[names.ending[first:last]]
        of = np.repeat(np.arange(count), np.diff(names.begin[1:]))  # the image that each is of
        found = [np.flatnonzero(kinds == kind) for kind in (IMAGE, MASK, CLASS, JSON)]
        if any((of[some][1:] == of[some][:-1]).any() for some in found):
            raise Odd
        images, masks, classes, jsons = found
        texts, which = contents(run, members[classes])
        said = [(member, json_of(open_image.path, member)) for member in map(run.member, members[jsons].tolist())]

        for i in names.members[:first].tolist():
            open_image.member(run.member(i))
        open_image.done()
        rows = np.full(count, -1)
        rows[of[images]] = self._n + np.arange(len(images))
        self._settle()
        self._keys.append(names.keys[first:last][images])
        self.at.frombytes(_where(run, members[images], open_image.number).tobytes())
        masks = masks[rows[of[masks]] >= 0]
        masked = np.column_stack([rows[of[masks]], _where(run, members[masks], open_image.number)])
        self._masks.frombytes(masked.tobytes())
        classed = np.bincount(of[classes], minlength=count) > 0
        for i, (member, found_in) in zip(of[jsons].tolist(), said, strict=True):
            for column, text in self.note(found_in, member, open_image.path).items():
                if rows[i] >= 0 and (column or not classed[i]):
                    self.words.setdefault(column, Words()).add(int(rows[i]), text)
        if (there := rows[of[classes]] >= 0).any():
            self.words.setdefault("", Words()).add_all(rows[of[classes]][there], texts, which[there])
        others = np.bincount(names.ending[first:last][kinds == OTHER], minlength=len(names.endings))
        for ending, n in zip(names.endings, others.tolist(), strict=True):
            if n:
                self.others[suffix(f"x.{ending}")] += n
        for key in _words(names.keys[names.begin[1:-1][rows < 0]]):
            self.alone(key)
        self._n += len(images)
        for i in names.members[last:].tolist():
            open_image.member(run.member(i))


class _Image:
    """The image at whose members a scan is, one by one."""

    def __init__(self, rows: Rows, number: int, path: Path) -> None:
        self._rows, self.number, self.path = rows, number, path
        self._begin(None)

    def _begin(self, key: str | None) -> None:
        self._key = key
        self._image, self._mask, self._said = (0, -1), (0, -1), dict[str, str]()

    def done(self) -> None:
        """No more members of it come."""
        if self._key is not None and self._image[1] < 0:
            self._rows.alone(self._key)
        elif self._key is not None:
            self._rows.add(self._key, self.number, self._image, self._mask, self._said)
        self._begin(None)

    def member(self, member: Member) -> None:
        """The next member of the shard.

        Raises:
            UserError: it is the second image of its name, or its words are none.
        """
        name, place, size, _ = member
        folder, _, last = name.rpartition("/")
        stem, dot, ending = last.partition(".")
        if not stem or not dot or last.lower() in SYSTEM or "__MACOSX" in name:
            return
        key = f"{folder}/{stem}" if folder else stem
        if key != self._key:
            self.done()
            self._begin(key)
        kind = kind_of(ending.lower())
        if kind == IMAGE:
            if self._image[1] >= 0:
                raise UserError(f"{self.path.name} has two images called {key!r}: each needs a name of its own.")
            self._image = (place, size)
        elif kind == MASK:
            self._mask = (place, size)
        elif kind == CLASS:
            self._said[""] = text_of(self.path, member).strip()
        elif kind == JSON:
            found = json_of(self.path, member)
            self._said = {**self._rows.note(found, member, self.path), **self._said}
        else:
            self._rows.others[suffix(last)] += 1


def _words(keys: np.ndarray) -> list[str]:
    """Keys (N,), of ASCII bytes or str, as str."""
    return [key.decode("ascii") for key in keys.tolist()] if keys.dtype.kind == "S" else keys.tolist()


def _where(run: Run, members: np.ndarray, number: int) -> np.ndarray:
    """(M, 3) int64: where some members of a run lie, as in `Rows.at`."""
    return np.column_stack([np.full(len(members), number), run.bodies[members], run.sizes[members]])
