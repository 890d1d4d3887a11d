"""Names of classes, as people write them: compared without regard to case, blanks around them, and Unicode form."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np

from cfdiff.data.distinct import distinct


def fold(name: str) -> str:
    """What two spellings of one name have in common: NFKC, casefolded, without blanks around it."""
    # Casefolding can undo the normal form (and the other way round), hence twice.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", str(name)).casefold())
    return folded.strip()


def same(a: str, b: str) -> bool:
    """Whether two spellings are one name."""
    return fold(a) == fold(b)


def spellings(names: np.ndarray, first: Iterable[str] = ()) -> dict[str, list[str]]:
    """Folded name -> how it is spelled: as in `first` where it is there, then the most frequent in `names` (N,)."""
    found: dict[str, list[str]] = {}
    unique, place = distinct(names)
    counts = np.bincount(place, minlength=len(unique))
    for name in (*first, *unique[np.argsort(-counts, kind="stable")].tolist()):
        of_name = found.setdefault(fold(name), [])
        if name not in of_name:
            of_name.append(name)
    return found


def one_class_notes(names: np.ndarray) -> tuple[str, ...]:
    """A sentence for each class whose name is spelled in more than one way; they are one class."""
    return tuple(
        f"{' and '.join(repr(name) for name in sorted(written))} are taken as one class."
        for written in spellings(names).values()
        if len(written) > 1
    )
