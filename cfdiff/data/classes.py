"""Class names to labels: which one is negative, which one positive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cfdiff.data.distinct import distinct
from cfdiff.data.names import fold, same, spellings
from cfdiff.data.source import NEGATIVE, OTHER, POSITIVE
from cfdiff.errors import UserError

BLANK = ("", "nan")
"""Labels that say nothing, as files and tables spell them (folded)."""
PERHAPS_BLANK = ("-1", "none")
"""Labels that say nothing, unless the source has just one other class: then they may be the other one."""

# Pairs whose order is beyond doubt, folded.
KNOWN_PAIRS = (
    ("negative", "positive"),
    ("neg", "pos"),
    ("0", "1"),
    ("-1", "1"),
    ("-1", "+1"),
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
    ("sound", "defect"),
    ("normal", "malignant"),
    ("normal", "cancer"),
    ("benign", "tumor"),
    ("benign", "tumour"),
    ("benign", "cancer"),
    ("healthy", "tumor"),
    ("healthy", "tumour"),
    ("healthy", "cancer"),
)
NEGATIVE_WORDS, POSITIVE_WORDS = (frozenset(words) for words in zip(*KNOWN_PAIRS, strict=True))


def map_classes(
    names: np.ndarray,
    negative: str | None,
    positive: str | None,
    where: str,
    stated: tuple[str, ...] | None = None,
    unlabelled: tuple[str, str] | None = None,
) -> tuple[np.ndarray, tuple[str, str]]:
    """Labels (N,) int8 (0 negative, 1 positive, -1 other) and the names of (negative, positive).

    All names are compared folded (`names.fold`), so spellings that differ in case only are one class, which is shown
    as it is spelled most often. Names on the command line win, then the two classes that the file itself names in the
    order of their integers (`stated`); otherwise one or two classes are mapped where their names are a known pair.

    `unlabelled` are the classes of data that need not say: then labels that cannot be a class are -1, and data that has
    no other classes than these has them.

    Raises:
        UserError: the order is the user's to say, or the stated one contradicts what the names mean.
    """
    unique, place = distinct(names)
    folded = np.array([fold(name) for name in unique.tolist()], dtype=str)
    there, order = set(folded.tolist()), stated
    shown = spellings(names, stated or ())
    if unlabelled is not None:
        theirs = {fold(name): name for name in unlabelled}
        asked = {fold(name) for name in (negative, positive) if name is not None}
        there -= _silent(there, set(theirs)) - asked
        if there <= set(theirs):
            order = unlabelled
        shown = {name: [spelling] for name, spelling in theirs.items()} | shown
    known = [shown[name][0] for name in sorted({*there, *map(fold, order or ())})]
    if order is not None and order is not unlabelled and negative is None and positive is None:
        _check_order(order, where)
    pair = _resolve(known, negative, positive, where, order)
    labels = np.full(len(unique), OTHER, dtype=np.int8)
    for label, name in ((NEGATIVE, pair[0]), (POSITIVE, pair[1])):
        labels[folded == fold(name)] = label
    return labels[place], pair


def turned(order: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two orders (negative, positive) contradict each other: what one calls negative, the other positive."""
    return len(order) == len(other) == 2 and (same(order[0], other[1]) or same(order[1], other[0]))


def _silent(there: set[str], theirs: set[str]) -> set[str]:
    """Those of the folded names that say nothing: what cannot be a class of the source.

    -1 is a class beside nothing but 1 (or +1); "none" is one beside just one other, which is none of `theirs`.
    """
    rest = there - {*BLANK, *PERHAPS_BLANK}
    silent = {name for name in there if name in BLANK or name in PERHAPS_BLANK}
    if rest in ({"1"}, {"+1"}):
        silent.discard("-1")
    if len(rest) == 1 and not rest <= theirs and "-1" not in there:
        silent.discard("none")
    return silent


def _check_order(order: Sequence[str], where: str) -> None:
    """Raise UserError where a file calls negative what by its name is positive, as in an alphabetical order."""
    if len(order) == 2 and fold(order[0]) in POSITIVE_WORDS and fold(order[1]) in NEGATIVE_WORDS:
        raise UserError(
            f"{where} names its classes as {order[0]}, {order[1]}, and this order makes {order[0]!r} the negative one: "
            f"say which is which with --negative {order[1]} --positive {order[0]}."
        )


def _resolve(
    known: list[str], negative: str | None, positive: str | None, where: str, order: Sequence[str] | None
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
    by_fold = {fold(name): name for name in known}
    if neg is None and pos is None:
        if order is not None and len(order) == 2 and not same(*order):
            return by_fold[fold(order[0])], by_fold[fold(order[1])]
        for a, b in KNOWN_PAIRS:
            # -1 alone says nothing: there need not be a second class at all.
            if set(by_fold) <= {a, b} and set(by_fold) != {"-1"}:
                return by_fold.get(a, a), by_fold.get(b, b)
    said = ", ".join(name or "'' (no label)" for name in known)
    raise UserError(f"{where} has the classes {said}: choose two with --negative NAME --positive NAME.")


def _find(wanted: str, known: list[str], where: str) -> str:
    """The class called `wanted`."""
    found = next((name for name in known if same(name, wanted)), None)
    if found is None:
        raise UserError(f"{where} has no class {wanted!r}: its classes are {', '.join(known)}.")
    return found
