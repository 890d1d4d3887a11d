"""Names of any script in pictures: as they stand, by whichever font here can draw them, and else in ASCII."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from cfdiff.errors import UserError, first_line

P = ParamSpec("P")
T = TypeVar("T")
FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans",
    "FreeSans",
    "Unifont",
)
"""Fonts of many scripts, of which those that are installed are asked after matplotlib's own."""


@lru_cache
def families() -> list[str]:
    """The default font, then those of FALLBACKS that are here."""
    here = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in FALLBACKS if name in here)]


@lru_cache
def _drawable() -> frozenset[int]:
    found: set[int] = set()
    for name in families():
        path = font_manager.findfont(FontProperties(family=name), fallback_to_default=True)
        found |= set(font_manager.get_font(path).get_charmap())
    return frozenset(found)


def legible(words: str) -> str:
    """Words with each character that no font here can draw as an escape: \\u5173 and no empty box."""
    drawable = _drawable()
    return "".join(
        c if ord(c) in drawable or c == "\n" else c.encode("ascii", "backslashreplace").decode() for c in words
    )


def make_legible(figure: Figure) -> None:
    """The same for all words of a figure, before it is drawn."""
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text() != (words := legible(text.get_text())):
            text.set_text(words)


def lettered(draw: Callable[P, T]) -> Callable[P, T]:
    """Of a function that draws a picture: no name is a formula, whatever signs are in it, and fonts are `families`.

    What matplotlib cannot draw is a UserError, so that a picture never costs what it is a picture of.
    """

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        style: dict[Any, Any] = {"text.parse_math": False, "font.family": families()}
        try:
            with matplotlib.rc_context(style), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Glyph .* missing from")
                return draw(*args, **kwargs)
        except UserError:
            raise
        except Exception as error:  # a backend may raise anything
            raise UserError(
                f"The picture cannot be drawn ({type(error).__name__}: {first_line(error)}): all else is done, leave "
                "it out or give it another name."
            ) from error

    return drawn
