"""evaluate --pair: a run on data with true twins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from cfdiff.cli.app import app
from cfdiff.data.open import open_source
from cfdiff.data.values import unit
from cfdiff.errors import UserError
from cfdiff.evaluate.run import evaluate
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.store import RunParts

N = 12
SPOT = (slice(2, 6), slice(3, 7))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """24 images of 12 places in three boards; the defects are dark spots of two kinds, the last place has one image."""
    rng = np.random.default_rng(0)
    sound = rng.integers(150, 200, (N, 16, 16), dtype=np.uint8)
    defect = sound.copy()
    defect[:, *SPOT] -= 100
    masks = np.zeros((2 * N, 16, 16), bool)
    masks[N:, *SPOT] = True
    arrays = {
        "images": np.concatenate([sound, defect]),
        "labels": np.repeat(["good", "defect"], N),
        "id": np.array([f"{kind}/{k}" for kind in ("a", "b") for k in range(N)]),
        "pair": np.array([f"p{k}" for k in range(N)] + [f"p{k}" for k in range(N - 1)] + [""]),
        "group": np.array([f"board{k % 3}" for k in range(N)] * 2),
        "defect": np.array([""] * N + ["spur"] * 6 + ["open"] * 5 + ["rare"]),
        "masks": masks,
    }
    np.savez(tmp_path / "boards.npz", **arrays)
    return tmp_path / "boards.npz"


@pytest.fixture
def made(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """A result whose counterfactuals a function makes of sources and twins; from defects, or from `start`."""

    def make(edit: Callable[[np.ndarray, np.ndarray], np.ndarray], start: int = 1, name: str = "run.h5") -> Path:
        source = open_source(data)
        rows = np.flatnonzero(source.labels == start)
        images, others = source.read(rows), source.read((rows + N) % (2 * N))
        after = edit(images, others)
        arrays = {
            "id": source.ids[rows],
            "group": source.groups[rows],
            "pair": source.pairs[rows],
            "label": source.labels[rows],
            "target": np.full(N, 1 - start),
            "source": images,
            "counterfactual": after,
            "difference": unit(after) - unit(images),
        }
        settings = {"data": "boards.npz", "classes": list(source.classes), "split": None}
        with RunParts(tmp_path / name, settings, N, 100) as parts:
            for first, stop in parts.todo():
                parts.write(first, {k: v[first:stop] for k, v in arrays.items()})
            parts.join({"seed": 0, "models": {}, "direction": "positive (defect) -> negative (good)"})
        return tmp_path / name

    return make


def half(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The upper half of each spot becomes the twin's."""
    after = images.copy()
    after[:, 2:4] = others[:, 2:4]
    return after


def measure(run: Path, data: Path | None, **changes: Any) -> Any:
    quick = {"run": run, "data": None if data is None else str(data), "device": "cpu", "bootstrap": 200}
    return evaluate(EvaluateSettings(**{**quick, **changes}))


@pytest.mark.parametrize("start", [0, 1])
def test_the_twin_removes_all_error_and_the_source_none(made: Any, data: Path, start: int) -> None:
    # The last place has no twin: whatever stands there is in no figure.
    perfect = measure(made(lambda images, others: others, start), data)
    for name, value in {
        "error_after": 0,
        "error_removed": 1,
        "restored": 1,
        "sound_changed": 0,
        "twin_dice": 1,
    }.items():
        assert perfect[name].all.value == value, name
        assert perfect[name].all.n == N - 1
    nothing = measure(made(lambda images, others: images, start, "same.h5"), data)
    assert nothing["error_removed"].all.value == nothing["restored"].all.value == 0
    assert nothing["error_after"].all.value == nothing["error_before"].all.value > 0


def test_half_a_repair_is_half_of_each_figure_with_intervals_over_boards_and_kinds(made: Any, data: Path) -> None:
    found = measure(made(half), data)
    assert found["error_removed"].all.value == pytest.approx(0.5)
    assert found["restored"].all.value == found["restored_inside"].all.value == pytest.approx(0.5)
    assert found["twin_dice"].all.value == pytest.approx(2 / 3)
    assert found["error_removed_inside"].all.value == pytest.approx(0.5)
    assert found["error_removed_best"].all.value == 1 and found["error_removed_best"].better is None
    assert found["error_removed"].all.by == "bootstrap over groups"
    assert found["restored"].all.by == "Student over groups"
    assert found["error_removed/spur"].all.n == 6 and found["error_removed/open"].all.n == 5
    assert found["restored/spur"].all.value == pytest.approx(0.5)
    section = found.as_json()["sections"]["pair"]
    assert section["pairs"] == N - 1 and "error_removed/rare" not in section["figures"]
    assert {name: one["images"] for name, one in section["by_group"].items()} == {"board0": 4, "board1": 4, "board2": 3}
    assert all(one["error_removed"] == pytest.approx(0.5) for one in section["by_group"].values())


def test_rare_kinds_are_taken_together_and_a_sound_image_has_the_kind_of_its_twin(
    made: Any, data: Path, tmp_path: Path
) -> None:
    arrays = dict(np.load(data))
    arrays["defect"][N : N + 5] = ["a", "b", "c", "d", "e"]
    run = made(half, 0)
    np.savez(data, **arrays)
    figures = measure(run, data)["error_removed/other kinds"], measure(run, data)["error_removed/open"]
    assert [figure.all.n for figure in figures] == [6, 5]


def test_noise_everywhere_changes_sound_pixels_and_removes_less_than_nothing(made: Any, data: Path) -> None:
    found = measure(made(lambda images, others: images // 2), data)
    assert found["error_removed"].all.value < 0 and found["sound_changed"].all.value == 1


def test_a_column_of_pairs_that_are_none_matters_only_to_who_asks(made: Any, data: Path) -> None:
    run, arrays = made(half), dict(np.load(data))
    arrays["pair"][:] = "visit 1"
    np.savez(data, **arrays)
    assert "pair" not in measure(run, data).sections
    with pytest.raises(UserError, match="a pair is one image of each class"):
        measure(run, data, pair=True)


def test_the_values_of_every_image_and_the_table_have_it(made: Any, data: Path, tmp_path: Path) -> None:
    run = made(half)
    measure(run, data, save=tmp_path / "values.h5", out=tmp_path / "e.json")
    with h5py.File(tmp_path / "values.h5") as values:
        assert np.isnan(values["pair/restored"][-1]) and np.allclose(values["pair/restored"][:-1], 0.5)
    assert json.loads((tmp_path / "e.json").read_text())["sections"]["pair"]["question"] == "Near the true twin?"
    done = CliRunner().invoke(app, ["evaluate", str(run), "--pair", "--data", str(data), "--bootstrap", "50"])
    assert done.exit_code == 0, done.output
    for words in ("Near the true twin?", "error removed, spur", "error removed, group board2", "true difference"):
        assert words in " ".join(done.output.split())


def test_the_batch_size_does_not_change_a_figure(made: Any, data: Path) -> None:
    run = made(half)
    one, all_ = (measure(run, data, batch_size=size).as_json()["sections"]["pair"] for size in (1, 64))
    assert one == all_


def test_it_is_left_out_where_nobody_asked_and_an_error_where_it_cannot_be_had(
    made: Any, data: Path, tmp_path: Path
) -> None:
    run = made(half)
    assert "pair" not in measure(run, data, pair=False).sections and "pair" not in measure(run, None).sections
    arrays = dict(np.load(data))
    np.savez(tmp_path / "none.npz", **{k: v for k, v in arrays.items() if k != "pair"})
    np.savez(tmp_path / "alone.npz", **{**arrays, "pair": np.array([f"p{k}" for k in range(2 * N)])})
    np.savez(tmp_path / "other.npz", **{**arrays, "images": arrays["images"] // 2})
    assert "pair" not in measure(run, tmp_path / "none.npz").sections
    assert "pair" not in measure(run, tmp_path / "alone.npz").sections
    for place, words in (
        (None, "name that with --data"),
        ("none.npz", "none.npz has no pairs"),
        ("alone.npz", "No image of run.h5 has a twin in alone.npz"),
        ("other.npz", "other.npz is not the one in run.h5"),
    ):
        with pytest.raises(UserError, match=words):
            measure(run, None if place is None else tmp_path / place, pair=True, masks=str(data))
