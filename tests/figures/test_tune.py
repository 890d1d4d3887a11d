from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfdiff.figures.tune import trade_off


def draw(out: Path, n: int, **changes: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    flip = rng.uniform(0.5, 1, n)
    arrays = {"calls": rng.uniform(20, 90, n), "complete": np.arange(n) % 3 == 0, "front": np.array([0])}
    arrays |= changes
    return trade_off(
        flip,
        0.01 * flip,
        arrays["calls"],
        arrays["complete"],
        front=arrays["front"],
        chosen=0,
        goal=0.9,
        start_name="default",
        decided_by="verifier",
        out=out,
    )


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_figure_is_drawn_and_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    paths = [draw(tmp_path / f"{name}.{suffix}", 12) for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_search_of_one_trial_or_of_one_number_of_calls_can_be_drawn(tmp_path: Path) -> None:
    one = Image.open(draw(tmp_path / "one.png", 1))
    flat = Image.open(draw(tmp_path / "flat.png", 12, calls=np.full(12, 40.0)))
    assert np.asarray(one).std() > 0 and one.size == flat.size


def test_calls_are_the_colour_and_the_front_is_marked(tmp_path: Path) -> None:
    usual = np.asarray(Image.open(draw(tmp_path / "usual.png", 12)))
    dearer = np.asarray(Image.open(draw(tmp_path / "calls.png", 12, calls=np.linspace(10, 90, 12))))
    longer = np.asarray(Image.open(draw(tmp_path / "front.png", 12, front=np.array([0, 3, 6]))))
    assert (usual != dearer).any() and (usual != longer).any()
