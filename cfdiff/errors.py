"""The one exception for a user's mistake, and what it says of another's."""

from __future__ import annotations

import re

LONGEST = 1200
"""Characters of a sentence: a name in it may have thousands."""
_NAME_OF_A_CONTAINER = "".join(rf"(?<!\b{kind}://)" for kind in ("az", "adl", "abfs", "abfss", "wasb", "wasbs"))
LOGIN = re.compile(rf"(?<=://)(?:{_NAME_OF_A_CONTAINER}[^/@:\s]+@|[^/@:\s]*:(?!:|\d+/)(?:(?!::)[^@\s])*@)", re.I)
"""The user and the password of an URL, wherever it stands, which may hold a slash; `host:22/a@b` has none. Azure has
the name of a container there, as in abfs://container@account.dfs.core.windows.net/x."""


class UserError(Exception):
    """What is wrong, where, and what to do: one sentence, shown without a traceback, exit code 2.

    It stays on its line whatever the names in it hold, and a page of them is cut in the middle. The user and the
    password of an URL are left out.
    """

    def __init__(self, words: str) -> None:
        line = LOGIN.sub("", plain(" ".join(words.splitlines())))
        half = LONGEST // 2
        super().__init__(line if len(line) <= LONGEST else f"{line[:half]} … {line[-half:]}")


def first_line(error: Exception) -> str:
    """The first line of what an exception says, without its full stop; its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")


def plain(name: str) -> str:
    """A name from somewhere without control characters and halves of characters, so that it stays on its line."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
