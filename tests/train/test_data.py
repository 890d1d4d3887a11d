from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.errors import UserError
from cfdiff.train.data import TrainingData, open_training_data
from cfdiff.train.settings import DiffusionSettings


def opened(path: Path, splits: list[str] | None = None, n: int = 40, **settings: Any) -> TrainingData:
    arrays: dict[str, Any] = {
        "images": np.random.default_rng(0).integers(0, 255, (n, 4, 4), dtype=np.uint8),
        "labels": np.array(["negative", "positive"])[np.arange(n) % 2],
        "patient": np.array([f"P{i // 4}" for i in range(n)]),
    }
    if splits is not None:
        arrays["split"] = np.array(splits)[np.arange(n) * len(splits) // n]
    np.savez(path / "toy.npz", **arrays)
    return open_training_data(DiffusionSettings(data=str(path / "toy.npz"), **settings))


def test_the_card_of_a_model_holds_the_hash_of_the_data_card(tmp_path: Path) -> None:
    assert opened(tmp_path).card["card_sha256"] is None
    (tmp_path / "card.json").write_text("{}")
    assert opened(tmp_path).card["card_sha256"] == hashlib.sha256(b"{}").hexdigest()
    bundled = open_training_data(DiffusionSettings(data="pneumoniamnist")).card["card_sha256"]
    assert isinstance(bundled, str) and len(bundled) == 64


def test_without_splits_a_tenth_of_the_groups_is_held_out(tmp_path: Path) -> None:
    data = opened(tmp_path, group_key="patient")
    assert data.train.groups is not None and data.validation.groups is not None
    assert not set(data.train.groups) & set(data.validation.groups)
    assert len(data.train) == 36 and len(data.validation) == 4
    assert set(data.validation.labels) == {0, 1}


def test_the_card_says_which_split_was_really_used_and_whose_images(tmp_path: Path) -> None:
    card = opened(tmp_path, ["train-guide", "train-judge", "val", "test"], group_key="patient").card
    assert (card["split"], card["val_split"], card["images"]) == ("train-guide", "val", 10)
    assert card["groups"] == ["P0", "P1", "P2"] and card["classes"] == ["negative", "positive"]
    assert str(tmp_path) not in str(card) and len(card["fingerprint"]) == 64


def test_unknown_names_of_splits_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a, b: name the one to train on with --split"):
        opened(tmp_path, ["a", "b"])


def test_training_and_validation_must_not_overlap(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="overlap"):
        opened(tmp_path, ["train", "val"], split="train+val", val_split="val")
    joined = opened(tmp_path, ["train", "val"], split="train+val")
    assert not set(joined.train.ids) & set(joined.validation.ids)


def test_too_few_images_to_hold_any_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too few"):
        opened(tmp_path, n=2)
