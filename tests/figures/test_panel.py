from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfdiff.errors import UserError
from cfdiff.figures.panel import _LINE, _TITLE, panel


def _samples(n: int, shape: tuple[int, int, int] = (12, 12, 1), dtype: str = "uint8") -> dict[str, Any]:
    top = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    source = (np.random.default_rng(0).random((n, *shape)) * top).astype(dtype)
    difference = np.zeros((n, *shape), np.float32)
    difference[:, 4:8, 4:8] = -0.2
    before, after = np.full(n, 0.1), np.full(n, 0.9)
    values = {"source": source, "counterfactual": source, "difference": difference}
    return {**values, "before": before, "after": after, "classes": ("uninfected", "parasitized")}


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_twenty_four_samples_fit_one_page(tmp_path: Path) -> None:
    out = panel(**_samples(24), ids=[f"cell {i}" for i in range(24)], title="both", out=tmp_path / "p.png")
    width, height = Image.open(out).size
    assert width == 7 * 300 and height <= 9.5 * 300


def test_words_that_were_told_stand_below_the_title_cut_to_the_page(tmp_path: Path) -> None:
    told = {"none": None, "short": "'a cell'", "long": "'a very small cell' " * 20}
    drawn = {k: panel(**_samples(1), title="way", subtitle=v, out=tmp_path / f"{k}.png") for k, v in told.items()}
    sizes = {k: Image.open(path).size for k, path in drawn.items()}
    assert sizes["short"] == sizes["long"] and sizes["short"][1] > sizes["none"][1]
    line = slice(int(300 * _TITLE), int(300 * (_TITLE + _LINE)) - 10)
    long = _pixels(drawn["long"])[line]
    assert (long[:, :20] == 255).all() and (long[:, -20:] == 255).all() and (long < 128).any()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(12, 12, 1), (8, 16, 3)])
def test_gray_and_colour_of_every_type_and_any_number_can_be_drawn(
    tmp_path: Path, dtype: str, shape: tuple[int, int, int]
) -> None:
    for n in (1, 4):
        assert _pixels(panel(**_samples(n, shape, dtype), out=tmp_path / f"{n}.png")).std() > 0


def test_darker_is_blue_brighter_is_red_and_no_change_is_neutral(tmp_path: Path) -> None:
    samples = _samples(1)
    samples["source"] = samples["counterfactual"] = np.zeros_like(samples["source"])
    darker = _pixels(panel(**samples, out=tmp_path / "darker.png"))
    brighter = _pixels(panel(**{**samples, "difference": -samples["difference"]}, out=tmp_path / "brighter.png"))
    changed = np.abs(darker - brighter).sum(axis=-1) > 100
    assert changed.any()
    assert (darker[changed][:, 2] > darker[changed][:, 0]).all()
    assert (brighter[changed][:, 0] > brighter[changed][:, 2]).all()
    nothing = _pixels(panel(**{**samples, "difference": samples["difference"] * 0}, out=tmp_path / "none.png"))
    assert (np.ptp(nothing[changed], axis=-1) <= 1).all()


def test_a_sample_that_did_not_flip_is_marked(tmp_path: Path) -> None:
    samples = _samples(1)
    flipped = panel(**samples, out=tmp_path / "flipped.png")
    marked = panel(**samples, flipped=[False], out=tmp_path / "marked.png")
    same_side = panel(**{**samples, "after": np.array([0.3])}, out=tmp_path / "same.png")
    assert (_pixels(flipped) != _pixels(marked)).any()
    assert (_pixels(flipped) != _pixels(same_side)).any()


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_same_arrays_draw_the_same_bytes_without_a_date(tmp_path: Path, suffix: str) -> None:
    one = panel(**_samples(2), out=tmp_path / f"one{suffix}").read_bytes()
    assert one == panel(**_samples(2), out=tmp_path / f"two{suffix}").read_bytes()


def test_a_figure_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="end its name in .png, .pdf, .svg"):
        panel(**_samples(1), out=tmp_path / "p.bmp")
    with pytest.raises(UserError, match="Cannot write"):
        panel(**_samples(1), out=tmp_path / "missing" / "p.png")
    assert os.listdir(tmp_path) == []
