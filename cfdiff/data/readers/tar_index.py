"""Where the members of a .tar lie, by its headers alone: POSIX ustar and pax, and GNU's long names.

tarfile of the standard library takes far longer, as it makes an object of a dozen fields of every header; a million
images are two million of them. Most are plain, and `tar_runs` takes those many at a time; here are all others.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

from cfdiff.data.readers.tar_runs import BLOCK, FEW, Run, Runs, text
from cfdiff.errors import UserError

Member = tuple[str, int, int, bytes]
"""A file: name, the place of its bytes, how many, and the first (at most BLOCK) of them."""
FILES, NO_FILES = (b"0", b"\0", b"7"), (b"3", b"4", b"5", b"6")
"""Files; and devices and folders, which hold nothing. What else there is are links and sparse files."""
PAX, GNU_NAME, GLOBAL = b"x", b"L", b"g"
LONGEST = 1 << 20
"""Bytes of a header of pax or GNU: a name and some numbers."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


def members(path: Path, shown: str) -> Iterator[Member]:
    """The files in a .tar, in order, one by one; `shown` is what messages call the archive.

    Raises:
        UserError: it is none, is compressed, has links, or ends in the middle of a file.
    """
    for piece in pieces(path, shown):
        yield from piece.members() if isinstance(piece, Run) else (piece,)


def pieces(path: Path, shown: str, runs: bool = True) -> Iterator[Run | Member]:
    """The same, with those whose headers are plain in runs; a run is good until the next piece is asked for.

    Args:
        runs: whether to look for them at all; without, what is found is the same.

    Raises:
        UserError: as `members`, after the pieces before.
    """
    damaged = UserError(f"{shown} is no .tar that is whole: it may be truncated or corrupt, copy it again.")
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{shown} may not be read ({error.strerror}): change its permissions or remove it.") from error
    try:
        end, place = os.fstat(file).st_size, 0
        finder, careful = Runs(file, end), 0 if runs else end
        while place < end:
            if place >= careful:
                run, place, count = finder.at(place)
                if len(run.heads):
                    yield run
                careful = place if count >= FEW else place + finder.worth
            else:
                place = yield from _one_by_one(file, place, end, careful, shown, damaged)
                if place < 0:
                    return
        raise damaged
    finally:
        os.close(file)


def _one_by_one(
    file: int, place: int, end: int, until: int, shown: str, damaged: UserError
) -> Generator[Member, None, int]:
    """The files from `place` to `until` or beyond; where the next header is, -1 at the end of the archive."""
    name, told = "", -1  # what a header of pax or GNU says of the file after it
    while place < end and (place < until or name or told >= 0):
        head = os.pread(file, 2 * BLOCK, place)
        if not any(head[:BLOCK]):  # the end is two blocks of zeros; an archive without it may lack more
            return -1
        if place == 0 and (how := COMPRESSED.get(head[:2])):
            raise UserError(f"{shown} is compressed ({how}), and its images cannot be found alone: unpack it.")
        if len(head) < BLOCK or not (head[257:262] == b"ustar" or _adds_up(head)):
            raise damaged
        size = _number(head[124:136], damaged) if told < 0 else told
        kind, body = head[156:157], place + BLOCK
        place = body + -(-size // BLOCK) * BLOCK
        if body + size > end:
            raise damaged
        if kind in (PAX, GNU_NAME, GLOBAL):
            if size > LONGEST:
                raise damaged
            if kind == PAX:
                name, told = _pax(os.pread(file, size, body), damaged)
            elif kind == GNU_NAME:
                name = text(os.pread(file, size, body))
            continue
        name = name or _name(head)
        if kind in FILES:
            yield name.removeprefix("./"), body, size, head[BLOCK : BLOCK + size]
        elif kind not in NO_FILES:
            raise UserError(
                f"{name} in {shown} is a link or a sparse file, whose bytes lie elsewhere: pack it anew (tar "
                "--hard-dereference --dereference)."
            )
        name, told = "", -1
    return place


def _name(head: bytes) -> str:
    name = text(head[:100])
    if head[345] == 0 or head[257:263] != b"ustar\0":
        return name
    return f"{text(head[345:500])}/{name}"


def _number(field: bytes, damaged: UserError) -> int:
    """Octal digits; or where the first bit is set, as of more than 8 GB, binary."""
    try:
        found = int.from_bytes(field[1:], "big") if field[0] & 0x80 else int(field.strip(b"\0 ") or b"0", 8)
    except ValueError as error:
        raise damaged from error
    if found < 0:
        raise damaged
    return found


def _adds_up(head: bytes) -> bool:
    """The check sum of a header, of archives from before ustar."""
    try:
        return sum(head[:148]) + 8 * 32 + sum(head[156:BLOCK]) == int(head[148:156].strip(b"\0 "), 8)
    except ValueError:
        return False


def _pax(body: bytes, damaged: UserError) -> tuple[str, int]:
    """The `path` ("" where it says none) and the `size` (-1) of records "LENGTH KEY=VALUE\\n"."""
    name, size = "", -1
    while body:
        length, space, _ = body.partition(b" ")
        if not (space and length.isdigit() and len(length) < int(length) <= len(body)):
            raise damaged
        key, _, value = body[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path":
            name = text(value)
        elif key == b"size":
            if not value.isdigit():
                raise damaged
            size = int(value)
        body = body[int(length) :]
    return name, size
