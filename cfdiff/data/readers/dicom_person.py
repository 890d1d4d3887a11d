"""Whether a PatientID may name a person. On the safe side: a hash in its place joins images just as well."""

from __future__ import annotations

import re
import unicodedata

WORD = re.compile(r"[^\W\d_]+")
SHORT = re.compile(r"(?<![^\W_])[^\W\d_]{2}(?![^\W_])")
"""A word of two letters; beside a digit they are a code (MR1)."""
NO_NAMES = frozenset({"patient", "anonymous", "anonymized", "anonymised", "anon", "test", "case", "subject", "none"})
"""Words that name nobody."""
SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "œ": "oe", "ø": "oe", "å": "aa"})
PLAIN = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
"""Letters that are written with others where there are none such, in two ways."""
BEGINNING = 4
"""Letters of a longer name that tell it: an ID often has its beginning alone."""


def names_somebody(patient: str, name: str) -> bool:
    """Whether a PatientID holds a part of the PatientName, or has the look of a name itself.

    A part counts in whatever spelling (Müller, Mueller, Muller), by its first letters, and one of two letters where the
    word of the ID is made of parts: Li^Wu in LiWu1970. A name itself is what has no digit, has letters of
    another script than Latin, or is parted as names are.
    """
    spellings = _spellings(patient)
    words = [word for spelling in spellings for word in WORD.findall(spelling)]
    if "^" in patient or "," in patient or any(not word.isascii() for word in words):
        return True
    if not re.search(r"\d", patient) and any(len(word) > 2 and word not in NO_NAMES for word in words):
        return True
    parts = {part for spelling in _spellings(name) for part in WORD.findall(spelling)} - NO_NAMES
    if any(part[:BEGINNING] in spelling for part in parts if len(part) > 2 for spelling in spellings):
        return True
    made = re.compile("|".join(re.escape(part) for part in sorted(parts | {part[0] for part in parts}, key=len)[::-1]))
    short = {part for spelling in _spellings(name) for part in SHORT.findall(spelling)}
    return any(part in word and not made.sub("", word.replace(part, "", 1)) for part in short for word in words)


def _spellings(text: str) -> tuple[str, str]:
    """A text in small letters without marks, its special ones written with others in two ways."""
    whole = unicodedata.normalize("NFKC", text).casefold()
    return _unmarked(whole.translate(SPELT)), _unmarked(whole.translate(PLAIN))


def _unmarked(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text).translate(PLAIN) if not unicodedata.combining(c))
