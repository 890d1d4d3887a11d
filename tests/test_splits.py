"""--splits: every command that opens data takes the splits of a table in place of the data's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.bag.settings import BagSettings
from cfdiff.bag.setup import set_up
from cfdiff.data import open_source
from cfdiff.data.source import Source
from cfdiff.data.split_file import write_splits
from cfdiff.data.splitting import plan_splits
from cfdiff.doctor.context import open_images
from cfdiff.doctor.settings import DoctorSettings
from cfdiff.errors import UserError
from cfdiff.evaluate.realism import real_images
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.store import open_result
from cfdiff.store.runs import open_run
from cfdiff.train.classifier import train_classifier
from cfdiff.train.data import open_training_data
from cfdiff.train.settings import ClassifierSettings, DiffusionSettings
from cfdiff.translate.run import select_images, translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.tune.images import open_halves
from cfdiff.tune.settings import TuneSettings


@pytest.fixture
def table(toy: Any, tmp_path: Path) -> tuple[Path, dict[str, set[str]]]:
    """The toy's images in splits, and which are in each."""
    source = open_source(toy.data)
    splits = plan_splits(source).splits
    path = write_splits(source, splits, tmp_path / "splits.csv")
    return path, {name: set(source.ids[splits == name].tolist()) for name in np.unique(splits).tolist()}


OPENERS: dict[str, tuple[Callable[[dict[str, Any]], Source], str]] = {
    "translate": (lambda given: select_images(TranslateSettings(**given, split="val"))[0], "val"),
    "translate, default": (lambda given: select_images(TranslateSettings(**given))[0], "test"),
    "train-diffusion": (lambda given: open_training_data(DiffusionSettings(**given)).train, "train"),
    "train-classifier": (
        lambda given: open_training_data(ClassifierSettings(**given, split="train-judge")).train,
        "train-judge",
    ),
    "tune": (lambda given: open_halves(TuneSettings(**given), [2]).whole, "val"),
    "doctor": (lambda given: open_images(DoctorSettings(**given)), "val"),
}


@pytest.mark.parametrize("name", OPENERS)
def test_a_command_takes_its_images_from_the_tables_splits(toy: Any, table: Any, name: str) -> None:
    path, members = table
    opened, split = OPENERS[name]
    found = opened({"data": str(toy.data), "splits": path})
    assert set(found.ids.tolist()) <= members[split] and len(found) > 0
    assert set(found.splits.tolist()) == {split}


def test_bags_come_from_the_tables_splits(toy: Any, table: Any, tmp_path: Path) -> None:
    path, members = table
    given = {"data": str(toy.data), "weights": str(toy.weights), "device": "cpu", "splits": path}
    setup = set_up(BagSettings(**given, out=tmp_path / "bags.h5"))
    assert set(setup.source.ids.tolist()) == members["test"]
    assert "splits" not in setup.settings


def test_a_result_stores_what_the_splits_were_and_not_where_they_lay(toy: Any, table: Any, tmp_path: Path) -> None:
    path, members = table
    out, again = tmp_path / "run.h5", tmp_path / "again.h5"
    quick = {"from_": "sick", "limit": 2, "batch_size": 2}
    translate(toy.settings(out, splits=path, **quick))
    with open_result(out) as result:
        assert set(result["id"][:].tolist()) <= members["test"] and "splits" not in result.settings
        first = result.settings["data_sha256"]
    other = tmp_path / "moved.csv"
    head, *rows = path.read_text().splitlines()
    other.write_text("\n".join([head, *reversed(rows)]))
    translate(toy.settings(again, splits=other, **quick))
    with open_result(again) as result:
        assert result.settings["data_sha256"] == first
    with open_run(out) as run:
        asked = EvaluateSettings(run=out, reference=str(toy.data), split="nowhere", splits=path)
        with pytest.raises(UserError, match="no split 'nowhere': the known ones are test, train, train-judge"):
            real_images(asked, run)


def test_a_training_goes_on_with_the_same_splits_of_another_name_and_not_with_others(
    toy: Any, table: Any, tmp_path: Path
) -> None:
    path, _ = table
    quick = {"data": str(toy.data), "arch": "resnet10t", "kwargs": {"channels": [8, 16, 16, 16], "stem_width": 8}}
    quick |= {"out": tmp_path / "model", "device": "cpu", "batch_size": 4, "eval_every": 2, "noisy": False, "warmup": 1}
    train_classifier(ClassifierSettings(**quick, splits=path, steps=2))
    moved = path.rename(tmp_path / "moved.csv")
    train_classifier(ClassifierSettings(**quick, splits=moved, steps=2))
    assert str(tmp_path) not in (tmp_path / "model" / "settings.json").read_text()
    source = open_source(toy.data)
    other = write_splits(source, plan_splits(source, 1).splits, tmp_path / "other.csv")
    with pytest.raises(UserError, match="has changed since the training"):
        train_classifier(ClassifierSettings(**quick, splits=other, steps=2))
