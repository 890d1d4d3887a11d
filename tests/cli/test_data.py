from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cfdiff.cli.data import app
from cfdiff.data import open_source
from cfdiff.data.bundled import BUNDLED
from cfdiff.errors import UserError

runner = CliRunner()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (6, 6, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.array(["NORM", "TUM", "MUC"] * 2), slide=np.arange(6) // 3)
    return tmp_path / "d.npz"


def run(*args: object) -> str:
    result = runner.invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_ls_shows_all_bundled_sets_with_counts_and_licence() -> None:
    text = run("ls")
    for expected in (
        "malaria-cells",
        "7,089",
        "48x48",
        "no licence stated",
        "pneumoniamnist",
        "CC BY 4.0",
        "deeppcb",
        "MIT",
    ):
        assert expected in text
    assert [card["name"] for card in json.loads(run("ls", "--json"))] == list(BUNDLED)


def test_inspect_prints_counts_values_and_groups_and_writes_the_sheet(path: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    text = run("inspect", path, "--negative", "NORM", "--positive", "TUM", "--group-key", "slide", "--sheet", sheet)
    for expected in ("6 images", "6x8 RGB uint8", "NORM", "TUM", "other", "groups: 2", "exact copies: 0"):
        assert expected in text
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_inspect_as_json_is_json_and_nothing_else(path: Path) -> None:
    summary = json.loads(run("inspect", path, "--negative", "NORM", "--positive", "TUM", "--json"))
    assert summary["n"] == 6
    assert summary["counts"] == {"all": {"NORM": 2, "TUM": 2, "other": 2}}


def test_convert_resizes_turns_gray_and_drops_other_classes(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    text = run("convert", path, out, "--size", 4, "--gray", "--negative", "NORM", "--positive", "TUM")
    assert "4 images, 4x4 gray uint8" in text
    assert open_source(out).classes == ("NORM", "TUM")


def test_gray_and_rgb_together_are_refused(path: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["convert", str(path), str(tmp_path / "o.npz"), "--gray", "--rgb"])
    assert result.exit_code == 2


def test_a_mistake_reaches_the_main_program_as_a_user_error() -> None:
    with pytest.raises(UserError, match="There is no data at 'nowhere'"):
        runner.invoke(app, ["inspect", "nowhere"], catch_exceptions=False)


def test_names_from_the_data_are_no_markup_and_no_orders_to_the_terminal(tmp_path: Path) -> None:
    names = np.array(["[/a]", "[bold]b[/bold]\x1b[2J"])
    images = np.zeros((6, 4, 4), np.uint8)
    np.savez(tmp_path / "d[red].npz", images=images, labels=np.arange(6) % 2, classes=names, patient=names[[0, 1] * 3])
    text = run("inspect", tmp_path / "d[red].npz")
    assert "d[red].npz" in text and "[/a]" in text and "[bold]b[/bold]" in text and "\x1b" not in text


def test_two_spellings_of_one_class_are_counted_together_and_said(tmp_path: Path) -> None:
    labels = np.array(["Benign", "benign", "malignant", "benign"])
    np.savez(tmp_path / "d.npz", images=np.zeros((4, 4, 4), np.uint8), labels=labels)
    assert "'Benign' and 'benign' are taken as one class" in run("inspect", tmp_path / "d.npz")
    counts = json.loads(run("inspect", tmp_path / "d.npz", "--json"))["counts"]
    assert counts == {"all": {"benign": 3, "malignant": 1}}


def test_split_writes_a_table_and_shows_splits_by_class_and_group(toys: Any, tmp_path: Path) -> None:
    data, out = toys.write_npz(tmp_path / "toy.npz", 120), tmp_path / "splits.csv"
    text = run("split", data, "--out", out)
    for expected in ("train-verifier", "train-judge", "healthy", "sick", "groups", "--splits"):
        assert expected in text
    counted = json.loads(run("split", data, "--out", out, "--force", "--json"))
    splits = open_source(data, splits=out).splits
    assert {k: row["images"] for k, row in counted["splits"].items()} == dict(Counter(splits.tolist()))
    assert json.loads(run("inspect", data, "--splits", out, "--json"))["groups"]["in_several_splits"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["splits.csv", "toy.npz"]


def test_split_by_another_column_of_two_of_three_classes_covers_every_image(path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["NORM", "TUM", "MUC"] * 20)
    np.savez(path, images=rng.integers(0, 256, (60, 4, 4), np.uint8), labels=labels, slide=np.arange(60) // 6)
    out = tmp_path / "s.csv"
    run("split", path, "--out", out, "--group-key", "slide", "--negative", "NORM", "--positive", "TUM", "--seed", 3)
    assert len(out.read_text().splitlines()) == 61
    other = open_source(path, negative="NORM", positive="MUC", splits=out)
    assert set(other.splits.tolist()) == {"train", "train-verifier", "train-judge", "val", "test"}


def test_split_of_one_class_or_onto_an_existing_file_writes_nothing(toys: Any, tmp_path: Path) -> None:
    data, out = toys.write_npz(tmp_path / "toy.npz", 12, labels=np.array(["healthy"] * 12)), tmp_path / "s.csv"
    with pytest.raises(UserError, match="no image of class 'not healthy'"):
        runner.invoke(app, ["split", str(data), "--out", str(out), "--negative", "healthy"], catch_exceptions=False)
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        runner.invoke(app, ["split", str(data), "--out", str(out)], catch_exceptions=False)
    assert out.read_text() == "mine"


def test_slices_of_volumes_are_inspected_converted_and_split_as_reading_says(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")

    def run(*words: object) -> Any:
        return CliRunner().invoke(app, [*map(str, words)])

    for name in ("normal", "tumor"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for k in range(6):
            values = np.random.default_rng(k).integers(0, 255, (8, 9, 10)).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "scans" / name / f"sub-{name}{k}.nii.gz")
    reading = ["--reading", "axis=coronal,slices=2:5"]
    result = run("inspect", tmp_path / "scans", *reading, "--json")
    told = json.loads(result.stdout)
    assert (told["n"], told["shape"], told["groups"]["n"]) == (36, [10, 8, 1], 12)
    assert "12 files read in coronal slices" in result.stderr
    result = run("convert", tmp_path / "scans", tmp_path / "o.npz", *reading, "--size", "16", "--rgb")
    assert "36 images, 16x16 RGB uint8" in result.output
    assert run("split", tmp_path / "scans", "--out", tmp_path / "s.csv", *reading).exit_code == 0
    refused = run("inspect", tmp_path / "scans", "--reading", "axis=upward").exception
    assert isinstance(refused, UserError) and "choose of axial, coronal, sagittal" in str(refused)
