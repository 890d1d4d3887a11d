from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.errors import UserError
from cfdiff.figures.rows import Rows
from cfdiff.figures.settings import ShowSettings
from cfdiff.figures.show import choose, show
from cfdiff.translate.run import translate


@pytest.fixture(scope="module")
def run(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("show") / "run.h5"
    translate(toy.settings(out, limit=5, retries=0))
    return out


def rows(after: list[float]) -> Rows:
    n = len(after)
    prob = {"judge": np.stack([np.zeros(n), np.array(after)], axis=1)}
    ids = np.array([f"cell {i}" for i in range(n)])
    return Rows(ids, None, prob, np.zeros(n), np.array(after) > 0.5, None)


def chosen(after: list[float], **settings: Any) -> tuple[list[int], int]:
    found, of = choose(rows(after), ShowSettings(run=Path("run.h5"), **settings))
    return found.tolist(), of


AFTER = [0.9, 0.2, 0.7, 0.95, 0.4]


def test_images_come_in_the_order_asked_and_once() -> None:
    assert chosen(AFTER, index=(4, 0, 4)) == ([4, 0], 2)
    assert chosen(AFTER, ids=("cell 2", "cell 0")) == ([2, 0], 2)
    assert chosen(AFTER, best=2, worst=2) == ([3, 0, 1, 4], 4)
    assert chosen(AFTER, index=(1,), failed=True) == ([1, 4], 2)


def test_with_no_choice_the_images_are_spread_over_the_run() -> None:
    assert chosen(AFTER, limit=3) == ([0, 2, 4], 5)
    assert chosen(AFTER) == ([0, 1, 2, 3, 4], 5)


def test_failures_beyond_the_limit_are_left_out_and_counted() -> None:
    assert chosen([0.1] * 9, failed=True, limit=4) == ([0, 1, 2, 3], 9)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"index": (5,)}, "0 to 4"),
        ({"ids": ("x",)}, "no image 'x': ids are such as 'cell 0';"),
        ({"failed": True}, "nothing to draw"),
    ],
)
def test_what_is_not_in_the_run_is_one_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        chosen([0.9] * 5, **settings)


def test_the_panel_lies_beside_the_run_and_is_replaced_only_by_force(run: Path) -> None:
    done = show(ShowSettings(run=run, index=(0, 3)))
    assert (done.figure, done.shown, done.of) == (run.with_name("run-panel.png"), 2, 2)
    assert Image.open(done.figure).size[0] == 2100
    with pytest.raises(UserError, match="exists already"):
        show(ShowSettings(run=run))
    assert show(ShowSettings(run=run, force=True)).shown == 5
    done.figure.unlink()


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_a_panel_can_be_a_vector_figure_with_names_and_without_a_title(run: Path, tmp_path: Path, suffix: str) -> None:
    plain = show(ShowSettings(run=run, out=tmp_path / f"a.{suffix}", title=False)).figure.read_bytes()
    named = show(ShowSettings(run=run, out=tmp_path / f"b.{suffix}", names=True, columns=1)).figure.read_bytes()
    assert plain[:4] in (b"%PDF", b"<?xm") and named != plain


def test_another_ending_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="end --out in .png"):
        show(ShowSettings(run=tmp_path / "none.h5", out=tmp_path / "a.jpg"))


def test_a_bag_is_shown_as_its_sheet(toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "bags.h5"
    settings = {"data": str(toy.data), "weights": str(toy.weights), "steps": 4, "retries": 0, "device": "cpu"}
    bag(BagSettings(**settings, bags=1, mix="0.67", on_fail="keep", out=out))
    done = show(ShowSettings(run=out))
    assert done.figure.name == "bags-panel.png" and Image.open(done.figure).size[0] == 2100
    for wrong, words in (
        ({"best": 2}, "holds bags"),
        ({"index": (0, 1)}, "one at a time"),
        ({"index": (1,)}, "0 to 0"),
    ):
        with pytest.raises(UserError, match=words):
            show(ShowSettings(run=out, out=tmp_path / "x.png", **wrong))
    assert not (tmp_path / "x.png").exists()
