"""Names in pictures: no formula, no empty box, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cfdiff.data.lettering import legible, lettered, make_legible
from cfdiff.errors import UserError


@pytest.mark.parametrize("name", ["abc", "größe", "$\\frac$", "a_b^{", "Ω ≥ µ", ""])
def test_what_the_font_can_draw_stands_as_it_is(name: str) -> None:
    assert legible(name) == name


def test_what_no_font_can_draw_is_an_escape() -> None:
    assert legible("a\ue123\U0010fffd") == "a\\ue123\\U0010fffd"


@pytest.mark.parametrize("name", ["$\\frac$", "$", "$$", "$x^", "\ue123", "a\\"])
def test_every_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    @lettered
    def draw() -> str:
        figure = Figure(figsize=(1, 1))
        FigureCanvasAgg(figure)
        text = figure.text(0.5, 0.5, name)
        make_legible(figure)
        figure.savefig(tmp_path / "a.png")
        return text.get_text()

    assert draw() == legible(name)
    assert (tmp_path / "a.png").stat().st_size > 100


def test_a_picture_that_cannot_be_drawn_is_one_sentence() -> None:
    @lettered
    def draw() -> None:
        raise RuntimeError("In FT2Font: Can not load glyph\nmore")

    with pytest.raises(UserError, match=r"cannot be drawn \(RuntimeError: In FT2Font: Can not load glyph\): all else"):
        draw()
