from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cfdiff.metrics.intervals import mean_interval, share_interval, wilson
from cfdiff.translate.run import translate
from cfdiff.translate.summary import TranslateSummary, summarise

BY = ("judge", "checker")
KEYS = {
    *("result", "direction", "images", "groups", "intervals_over", "retried", "quarantined", "seconds_per_image"),
    *("recall", "batch_size", "batch_size_because"),
    *("mean_abs_difference", "mean_abs_difference_95", "network_calls", "guide_calls"),
    *(key for who in BY for key in (f"flipped_{who}", f"flipped_{who}_95", f"target_before_{who}")),
}


@pytest.fixture(scope="module")
def made(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TranslateSummary]:
    out = tmp_path_factory.mktemp("summary") / "run.h5"
    return out, translate(toy.settings(out, limit=12))


def test_the_summary_is_that_of_the_saved_values_of_all_images(made: tuple[Path, TranslateSummary]) -> None:
    out, figures = made
    assert summarise(out, batch=5) == replace(figures, seconds_per_image=None)
    with h5py.File(out) as file:
        change = (file["counterfactual"][:].astype(float) - file["source"][:]) / 255
        assert figures.mean_abs_difference == pytest.approx(np.abs(change).mean(), rel=1e-5)
        assert figures.flipped_judge == file["flipped"][:].mean()
        assert figures.flipped_checker == (file["prob/checker"][:, 1, 1] > 0.5).mean()
        assert figures.target_before_judge == (file["prob/judge"][:, 0, 1] > 0.5).mean()
        assert figures.network_calls == file["guidance/network_calls"][:].mean()
    assert figures.images == 12 and figures.result == "run.h5"


def test_its_intervals_are_over_the_groups_of_the_file_and_it_says_so(made: tuple[Path, TranslateSummary]) -> None:
    out, figures = made
    with h5py.File(out) as file:
        groups, flipped = file["group"].asstr()[:], file["flipped"][:]
        change = np.abs(file["counterfactual"][:].astype(np.float64) - file["source"][:]).mean(axis=(1, 2, 3)) / 255
    assert figures.groups == len(np.unique(groups)) > 1 and figures.intervals_over == "groups"
    assert figures.flipped_judge_95 == share_interval(flipped, groups) != wilson(int(flipped.sum()), 12)
    assert figures.mean_abs_difference_95 == pytest.approx(mean_interval(change, groups, (0, 1)), rel=1e-5)
    assert f"over {figures.groups} groups" in str(figures)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, None),
        ({"to_text": "a sick cell"}, "'a sick cell'"),
        ({"to_text": "a sick cell", "from_text": "none"}, "'a sick cell' rather than 'none'"),
        ({"to_text": None, "from_text": "a cell"}, "rather than 'a cell'"),
    ],
)
def test_the_words_of_an_edit_stand_beside_its_direction(
    made: tuple[Path, TranslateSummary], tmp_path: Path, texts: dict[str, str | None], words: str | None
) -> None:
    out = tmp_path / "run.h5"
    out.write_bytes(made[0].read_bytes())
    with h5py.File(out, "r+") as file:
        file.attrs["command"] = json.dumps({**json.loads(file.attrs["command"]), **texts})
    found = summarise(out)
    assert found.told == words and dict(found.rows()).get("told") == words == found.as_json().get("told")
    assert found.direction == made[1].direction


def test_without_groups_it_says_that_intervals_are_over_images(
    made: tuple[Path, TranslateSummary], tmp_path: Path
) -> None:
    out = tmp_path / "run.h5"
    out.write_bytes(made[0].read_bytes())
    with h5py.File(out, "r+") as file:
        del file["group"]
        flipped = file["flipped"][:]
    figures = summarise(out)
    assert figures.groups is None and figures.intervals_over == "images" and "over images" in str(figures)
    assert figures.flipped_judge_95 == wilson(int(flipped.sum()), 12)


def test_its_json_has_the_keys_of_the_command_without_those_of_a_judge_that_there_is_not(
    made: tuple[Path, TranslateSummary],
) -> None:
    figures = made[1].as_json()
    assert set(figures) == KEYS and figures["groups"] == made[1].groups
    alone = replace(made[1], flipped_judge=None, flipped_judge_95=None, target_before_judge=None)
    assert set(alone.as_json()) == {key for key in KEYS if "judge" not in key}
    assert "judge" not in str(alone) and "checker" in str(alone)
