"""The recipe of a weights folder: what stands below and above it, and what may stand in it."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cfdiff
from cfdiff.api import TASKS
from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.cli.app import app
from cfdiff.doctor.settings import DoctorSettings
from cfdiff.edit.recipe import fitted_splits
from cfdiff.edit.settings import RECIPE_SETTINGS, EditSettings
from cfdiff.errors import UserError
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.evaluate.trip import the_way_back
from cfdiff.settings import PLACES, DataSettings, resolve
from cfdiff.store import open_result
from cfdiff.store.bags import open_bags
from cfdiff.store.runs import open_run
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.tune.settings import TuneSettings

EDITING = (TranslateSettings, BagSettings, DoctorSettings, TuneSettings)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights folder that holds nothing but a recipe."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "edit.toml").write_text('solver = "dpm++"\nsteps = 8\ndepth = 0.4\n')
    return folder


@pytest.mark.parametrize("model", EDITING)
def test_a_recipe_stands_above_the_defaults_and_below_config_and_command_line(
    model: type[EditSettings], weights: Path, tmp_path: Path
) -> None:
    config = tmp_path / "run.toml"
    config.write_text("depth = 0.5\nsteps = 9\n")
    s = resolve(model, config, {"weights": str(weights), "steps": 10})
    assert (s.solver, s.depth, s.steps, s.ratio) == ("dpm++", 0.5, 10, EditSettings().ratio)
    assert resolve(model, None, {"weights": "magnetic-tile"}).solver == "ddim", "no recipe travels with these weights"


def test_a_config_may_name_the_weights_whose_recipe_it_is(weights: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f'weights = "{weights}"\n')
    assert resolve(TranslateSettings, config, {}).steps == 8


def test_bundled_data_take_the_recipe_of_their_bundled_weights(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfdiff.models.bundled.WEIGHTS", weights.parent)
    weights.rename(weights.parent / "malaria-cells")
    assert resolve(TranslateSettings, None, {}).steps == 8
    assert resolve(TranslateSettings, None, {"data": "malaria-cells"}).steps == 8
    assert resolve(TranslateSettings, None, {"data": "other.npz"}).steps == EditSettings().steps
    assert resolve(TranslateSettings, None, {"data": "other.npz", "weights": "malaria-cells"}).steps == 8


def test_with_another_diffusion_model_a_recipe_is_not_that_of_the_models(weights: Path) -> None:
    given: dict[str, Any] = {"weights": str(weights)}
    assert resolve(TranslateSettings, None, {**given, "diffusion": "mine.safetensors"}).steps == EditSettings().steps
    assert resolve(TranslateSettings, None, {**given, "judge": "mine.safetensors"}).steps == 8


def test_lines_that_a_recipe_holds_are_held_by_translate_and_passed_over_by_who_holds_none(weights: Path) -> None:
    (weights / "edit.toml").write_text('steps = 8\ncontrol = "outline"\n')
    given = {"weights": str(weights)}
    assert resolve(TranslateSettings, None, given).lock == ("outline", None)
    assert resolve(TranslateSettings, None, {**given, "control": "none"}).lock == ("none", None)
    assert resolve(BagSettings, None, given).steps == 8 and resolve(TuneSettings, None, given).lock[0] == "none"


@pytest.fixture
def either(weights: Path) -> Path:
    """A weights folder with a recipe for all edits and one for those to positive."""
    (weights / "edit-to-positive.toml").write_text("steps = 9\nguides = 'noisy'\nsmooth = [0.1, 0.2]\nratio = inf\n")
    return weights


def test_a_recipe_of_one_class_stands_above_that_of_all(either: Path) -> None:
    s = resolve(TranslateSettings, None, {"weights": str(either)})
    negative, positive = s.for_target(0), s.for_target(1)
    assert (negative.steps, negative.guides, negative.depth, negative.smooth) == (8, "both", 0.4, ())
    assert (positive.steps, positive.guides, positive.depth, positive.smooth) == (9, "noisy", 0.4, (0.1, 0.2))
    assert positive.ratio is None and positive.for_target(0) == positive, "what is settled stays so"
    assert (s.steps, s.either) == (8, [negative, positive])
    (either / "edit.toml").write_text("steps = 8\n[towards.negative]\nsteps = 7\n[towards.positive]\nsteps = 6\n")
    tables = resolve(TranslateSettings, None, {"weights": str(either)})
    assert [tables.for_target(target).steps for target in (0, 1)] == [7, 9], "a file of its own stands above a table"


def test_what_a_caller_says_holds_for_both_classes(either: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("steps = 5\n[towards.negative]\nsteps = 6\ndepth = 0.2\n")
    said = resolve(TranslateSettings, None, {"weights": str(either), "steps": 4})
    assert (said.for_target(1).steps, said.for_target(1).guides) == (4, "noisy")
    told = resolve(TranslateSettings, config, {"weights": str(either)})
    assert (told.for_target(0).steps, told.for_target(0).depth, told.for_target(1).steps) == (6, 0.2, 5)
    assert told.for_target(1).guides == "noisy", "the recipe of the other class stays"
    over = resolve(TranslateSettings, config, {"weights": str(either), "steps": 4})
    assert (over.for_target(0).steps, over.for_target(0).depth) == (4, 0.2)
    changed = resolve(TranslateSettings, None, {"weights": str(either)}).model_copy(update={"guides": "clean"})
    assert (changed.for_target(1).guides, changed.for_target(1).steps) == ("clean", 9)
    config.write_text("[towards.positive]\nsteps = 6\n")
    both = resolve(TranslateSettings, config, {"weights": str(either)}).for_target(1)
    assert (both.steps, both.guides, both.smooth) == (6, "noisy", (0.1, 0.2)), "the rest of its own recipe stays"


def test_an_option_beside_a_settings_object_holds_for_both_classes(
    either: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    module, _, attribute = TASKS["translate"].run.partition(":")
    monkeypatch.setattr(importlib.import_module(module), attribute, lambda s, progress: calls.append(s))
    cfdiff.translate(resolve(TranslateSettings, None, {"weights": str(either)}), steps=4, progress=False)
    assert [calls[0].for_target(target).steps for target in (0, 1)] == [4, 4]


def test_a_search_begins_with_the_recipe_of_all_edits(either: Path) -> None:
    assert resolve(TuneSettings, None, {"weights": str(either)}).for_target(1).steps == 8
    with pytest.raises(UserError, match="towards = .* is not possible: a search tries settings for all of its edits"):
        resolve(TuneSettings, None, {"towards": {"positive": {"steps": 3}}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "stepz = 8",
            "no setting 'stepz' of an edit, which alone may stand in the recipe 'weights/edit-to-positive.toml'",
        ),
        ('data = "mine.npz"', "no setting 'data'"),
        ('mask = "data"', "no setting 'mask' may differ by the class"),
        ("towards = {negative = {steps = 3}}", "no setting 'towards' may differ by the class"),
        ("steps = 0", "steps = 0, input should be greater than 0"),
        ('edit = "Magic"', "edit = 'Magic', there is no way of editing 'Magic'"),
        ("steps = ", "recipe 'weights/edit-to-positive.toml' is no valid TOML"),
    ],
)
def test_what_is_wrong_in_the_recipe_of_a_class_is_one_sentence(either: Path, text: str, words: str) -> None:
    (either / "edit-to-positive.toml").write_text(text)
    with pytest.raises(UserError) as said:
        resolve(TranslateSettings, None, {"weights": str(either)})
    told = str(said.value)
    assert words in told and "edit-to-positive.toml" in told and "\n" not in told


def test_each_direction_is_edited_by_its_own_recipe(toy: Any, tmp_path: Path) -> None:
    """By translate, whose result holds what was used, and by bag."""
    folder = tmp_path / "weights"
    shutil.copytree(toy.weights, folder)
    (folder / "edit.toml").write_text("steps = 4\nretries = 0\ntrim = 0.0\n")
    (folder / "edit-to-positive.toml").write_text("steps = 3\ndepth = 0.2\n")
    given = {"data": str(toy.data), "weights": str(folder), "device": "cpu"}
    found = {}
    for start in ("negative", "positive"):
        out = tmp_path / f"{start}.h5"
        translate(resolve(TranslateSettings, None, {**given, "from": start, "limit": 2, "out": out}))
        with open_result(out) as r:
            assert r.settings["towards"] == {}
            found[start] = (r.settings["steps"], r["guidance/depth"][:].round(3).astype(str).tolist())
    assert found == {"negative": (3, ["0.2", "0.2"]), "positive": (4, ["0.3", "0.3"])}
    (folder / "edit-to-negative.toml").write_text("edit = 'regenerate'\n")  # which comes with a map, the other has none
    out = tmp_path / "both.h5"
    bag(resolve(BagSettings, None, {**given, "sweep": "0:1:0.5", "bag_size": 6, "untouched": "sham", "out": out}))
    (folder / "edit-to-negative.toml").unlink()
    for mode, mix, depth in (("instance", "1", "0.2"), ("instance", "0", "0.3"), ("joint", "1", "0.2")):
        out = tmp_path / f"{mode}-{mix}.h5"
        told = {"mode": mode, "mix": mix, "bag_size": 6, "bags": 1, "on_fail": "keep", "out": out}
        told |= {"untouched": "sham"} if mode == "joint" else {}  # nothing else is kept of an edit that fails
        bag(resolve(BagSettings, None, {**given, **told}))
        with open_bags(out) as bags:
            assert set(bags.read("edit/depth").round(3).astype(str).tolist()) == {depth}


def test_a_folder_that_is_not_there_is_left_to_those_who_look_for_models() -> None:
    assert resolve(TranslateSettings, None, {"weights": "nowhere"}).weights == "nowhere"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepz = 8", "no setting 'stepz' of an edit, which alone may stand in the recipe 'weights/edit.toml'"),
        ('data = "mine.npz"', "no setting 'data'"),
        ('judge = "judge.safetensors"', "no setting 'judge'"),
        ("mix = 0.3", "no setting 'mix'"),
        ("seed = 1", "no setting 'seed'"),
        ("steps = 0", "steps = 0 in the recipe 'weights/edit.toml' is not possible"),
        ('solver = "magic"', "there is no solver 'magic'"),
        ("steps = ", "recipe 'weights/edit.toml' is no valid TOML"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_one_sentence_that_names_the_file(weights: Path, text: str, words: str) -> None:
    (weights / "edit.toml").write_text(text)
    with pytest.raises(UserError) as said:
        resolve(TranslateSettings, None, {"weights": str(weights)})
    told = str(said.value)
    assert words in told and "edit.toml" in told and "\n" not in told and told.endswith((".", ")."))


def test_a_recipe_that_cannot_be_read_is_said_so(weights: Path) -> None:
    (weights / "edit.toml").write_bytes(b'solver = "\xff"')
    with pytest.raises(UserError, match="recipe 'weights/edit.toml' is no valid TOML"):
        resolve(TranslateSettings, None, {"weights": str(weights)})


def test_a_mistake_in_what_is_given_is_not_put_on_the_recipe(weights: Path) -> None:
    with pytest.raises(UserError, match=r"The setting steps = 0 is not possible"):
        resolve(TranslateSettings, None, {"weights": str(weights), "steps": 0})


def test_every_setting_of_an_edit_may_stand_in_a_recipe_and_no_place() -> None:
    assert {"solver", "steps", "guides", "edit", "redraw_share", "smooth", "w", "base"} <= RECIPE_SETTINGS
    assert not RECIPE_SETTINGS & (PLACES | set(DataSettings.model_fields) | {"seed"})


def test_the_functions_of_the_package_take_the_recipe_too(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    for name in ("translate", "bag", "doctor", "tune"):
        module, _, attribute = TASKS[name].run.partition(":")
        monkeypatch.setattr(importlib.import_module(module), attribute, lambda s, progress: calls.append(s))
        getattr(cfdiff, name)(weights=weights, depth=0.2, progress=False)
    cfdiff.translate(TranslateSettings(weights=str(weights), depth=0.2), progress=False)
    assert [(s.solver, s.steps, s.depth) for s in calls] == 5 * [("dpm++", 8, 0.2)]


def test_the_command_line_takes_it_and_commands_that_edit_nothing_never_look(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfdiff.models.bundled.WEIGHTS", weights.parent)
    weights.rename(weights.parent / "malaria-cells")
    (weights.parent / "malaria-cells" / "edit.toml").write_text("stepz = 1")
    run = CliRunner().invoke
    assert "stepz" in str(run(app, ["translate", "--limit", "1"]).exception)
    assert run(app, ["data", "inspect", "malaria-cells"]).exit_code == 0
    assert resolve(EvaluateSettings, None, {"run": "run.h5", "weights": "malaria-cells"}).weights == "malaria-cells"


def test_a_result_holds_what_the_recipe_said_and_the_round_trip_takes_it_from_there(toy: Any, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(toy.weights, folder)
    (folder / "edit.toml").write_text('solver = "dpm++"\nsteps = 5\n')
    given = {"data": str(toy.data), "weights": str(folder), "device": "cpu", "limit": 2, "retries": 0}
    translate(resolve(TranslateSettings, None, {**given, "out": tmp_path / "run.h5"}))
    with open_result(tmp_path / "run.h5") as r:
        assert (r.settings["solver"], r.settings["steps"]) == ("dpm++", 5)
    (folder / "edit.toml").write_text("steps = 9\n")
    back = EvaluateSettings(run=tmp_path / "run.h5", weights=str(folder), device="cpu")
    with open_run(tmp_path / "run.h5") as run:
        assert (the_way_back(back, run).s.solver, the_way_back(back, run).s.steps) == ("dpm++", 5)


def test_the_splits_of_a_fit_are_of_the_data_that_it_was_made_of_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cells = tmp_path / "fit", tmp_path / "cells"
    folder.mkdir()
    cells.mkdir()
    (folder / "splits.csv").write_text("id,split\n")

    def of(name: str, data: str) -> bool:
        (folder / "fit.json").write_text(json.dumps({"of": {"data": name}}))
        return fitted_splits(folder, data) == folder / "splits.csv"

    monkeypatch.chdir(cells)
    assert of("cells", ".") and of("cells", str(cells)) and of("cells", f"{cells}/") and not of("cells", str(tmp_path))
    home = tmp_path / "home"
    (home / ".medmnist").mkdir(parents=True)
    (home / ".medmnist" / "pathmnist_64.npz").write_text("")
    monkeypatch.setenv("HOME", str(home))
    assert of("pathmnist_64.npz", "pathmnist_64") and not of("pathmnist_64.npz", "pathmnist")
