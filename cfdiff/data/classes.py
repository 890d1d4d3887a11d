"""Class names to labels: which one is negative, which one positive."""

from __future__ import annotations

import numpy as np

from cfdiff.data.source import NEGATIVE, OTHER, POSITIVE
from cfdiff.errors import UserError

UNLABELLED = ("", "-1", "nan", "None")
"""Labels that say nothing, where data may be without: as files and tables spell them."""

# Pairs whose order is beyond doubt; compared in lower case.
KNOWN_PAIRS = (
    ("negative", "positive"),
    ("neg", "pos"),
    ("0", "1"),
    ("false", "true"),
    ("no", "yes"),
    ("normal", "abnormal"),
    ("normal", "pneumonia"),
    ("normal", "tumor"),
    ("normal", "tumour"),
    ("norm", "tum"),
    ("healthy", "diseased"),
    ("healthy", "sick"),
    ("benign", "malignant"),
    ("uninfected", "parasitized"),
    ("uninfected", "infected"),
    ("good", "defect"),
    ("good", "defective"),
    ("ok", "defect"),
)


def map_classes(
    names: np.ndarray,
    negative: str | None,
    positive: str | None,
    where: str,
    stated: tuple[str, ...] | None = None,
    unlabelled: tuple[str, str] | None = None,
) -> tuple[np.ndarray, tuple[str, str]]:
    """Labels (N,) int8 (0 negative, 1 positive, -1 other) and the names of (negative, positive).

    Names on the command line win, then the two classes that the file itself names in the order of their
    integers (`stated`); otherwise one or two classes are mapped where their names are a known
    pair. Anything else is the user's to decide: UserError lists the classes.

    `unlabelled` are the classes of data that need not say: then labels as in UNLABELLED are -1, and data that has no
    other classes than these has them.
    """
    if unlabelled is not None:
        told = set(names.tolist()) - set(UNLABELLED)
        names = np.where(np.isin(names, UNLABELLED), "", names)
        stated = unlabelled if told <= set(unlabelled) else stated
        known = sorted({*told, *(stated or ())})
    else:
        known = [str(name) for name in np.unique(names if stated is None else [*names, *stated])]
    pair = _resolve(known, negative, positive, where, stated)
    labels = np.full(len(names), OTHER, dtype=np.int8)
    labels[names == pair[0]] = NEGATIVE
    labels[names == pair[1]] = POSITIVE
    return labels, pair


def _resolve(
    known: list[str], negative: str | None, positive: str | None, where: str, stated: tuple[str, ...] | None
) -> tuple[str, str]:
    neg = None if negative is None else _find(negative, known, where)
    pos = None if positive is None else _find(positive, known, where)
    if neg is not None and neg == pos:
        raise UserError(f"--negative and --positive both name the class {neg!r} of {where}: name two classes.")
    if neg is not None and pos is not None:
        return neg, pos
    rest = [name for name in known if name not in (neg, pos)]
    if neg is not None and len(rest) <= 1:
        return neg, rest[0] if rest else f"not {neg}"
    if pos is not None and len(rest) <= 1:
        return (rest[0] if rest else f"not {pos}"), pos
    if neg is None and pos is None:
        if stated is not None and len(stated) == 2:
            return stated[0], stated[1]
        by_lower = {name.lower(): name for name in known}
        for a, b in KNOWN_PAIRS:
            if set(by_lower) <= {a, b}:
                return by_lower.get(a, a), by_lower.get(b, b)
    raise UserError(f"{where} has the classes {', '.join(known)}: choose two with --negative NAME --positive NAME.")


def _find(wanted: str, known: list[str], where: str) -> str:
    """The class called `wanted`; the case of letters matters only where it tells two classes apart."""
    same = [name for name in known if name == wanted] or [n for n in known if n.lower() == wanted.lower()]
    if len(same) != 1:
        raise UserError(f"{where} has no class {wanted!r}: its classes are {', '.join(known)}.")
    return same[0]
