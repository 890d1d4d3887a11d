"""A layout of images that this package does not know, registered from outside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cfdiff.cli.data import app
from cfdiff.data.fit import Fit
from cfdiff.data.open import open_source
from cfdiff.data.raw import Format, Raw
from cfdiff.errors import UserError
from cfdiff.registry import READERS
from cfdiff.store import open_result
from cfdiff.translate.run import translate


def read_toy(path: Path, name: str, fit: Fit | None, unlabelled: bool) -> Raw:
    """A text file with a class and a gray value a line: an image of 16x16 each."""
    rows = [line.split() for line in path.read_text().splitlines()]
    images = np.stack([np.full((16, 16, 1), int(value), np.uint8) for _, value in rows])
    return Raw(
        name=name,
        ids=np.array([f"line-{i}" for i in range(len(rows))]),
        labels=np.array([word for word, _ in rows]),
        splits=None,
        shape=(16, 16, 1),
        dtype=np.dtype(np.uint8),
        reader=lambda rows: images[rows],
        digest=lambda rows: hashlib.sha256(images[rows].tobytes()).hexdigest(),
    )


@pytest.fixture
def toy_file(tmp_path: Path) -> Iterator[Path]:
    READERS[".toy"] = Format(lambda path: path.suffix == ".toy", read_toy)
    path = tmp_path / "cells.toy"
    path.write_text("\n".join(f"{'sick' if i % 2 else 'healthy'} {60 + 20 * i}" for i in range(6)))
    yield path
    del READERS[".toy"]


def test_a_reader_registered_outside_the_package_serves_inspect_and_translate(
    toy: Any, toy_file: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["inspect", str(toy_file), "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["counts"] == {"all": {"healthy": 3, "sick": 3}}
    translate(toy.settings(tmp_path / "run.h5", data=str(toy_file), from_="healthy", retries=0))
    with open_result(tmp_path / "run.h5") as r:
        assert list(r["id"][:]) == ["line-0", "line-2", "line-4"] and r.source[0, 0, 0, 0] == 60


def test_what_opens_a_source_makes_its_images_fit_for_a_reader_that_does_not(toy_file: Path) -> None:
    source = open_source(toy_file, fit=Fit(4, 3))
    assert source.shape == source.read([0])[0].shape == (4, 4, 3)


def test_the_sentences_about_what_can_be_read_name_every_registered_layout(toy_file: Path) -> None:
    (toy_file.parent / "a.doc").write_text("hello")
    for spec in (str(toy_file.parent / "a.doc"), "nowhere"):
        with pytest.raises(
            UserError,
            match=r"a folder, \.csv, \.npz, \.h5, PatchCamelyon, WebDataset's \.tar, \.dcm, \.nii or a slide, \.toy",
        ):
            open_source(spec)


def test_a_layout_registered_later_may_take_over_an_older_one(toy_file: Path) -> None:
    READERS[".toy-too"] = Format(lambda path: path.suffix == ".toy", lambda path, name, fit, unlabelled: 1 / 0)  # type: ignore[arg-type, return-value]
    try:
        with pytest.raises(ZeroDivisionError):
            open_source(toy_file)
    finally:
        del READERS[".toy-too"]
