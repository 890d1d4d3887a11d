"""Whole searches on the toys. The start is so strong that every image flips, with far more change than it takes."""

from __future__ import annotations

import json
import math
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.bag.settings import BagSettings
from cfdiff.data.values import to_model
from cfdiff.edit import cast as casts
from cfdiff.edit.editor import Editor
from cfdiff.edit.roles import load_cast
from cfdiff.edit.settings import EditSettings
from cfdiff.errors import UserError
from cfdiff.metrics.intervals import wilson
from cfdiff.models.checkpoint import Card, save_model
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.settings import resolve
from cfdiff.store import open_result
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.tune import compare
from cfdiff.tune import run as workflow
from cfdiff.tune.budget import Budget
from cfdiff.tune.compare import warnings
from cfdiff.tune.config import started_from
from cfdiff.tune.images import open_halves
from cfdiff.tune.result import Measured, TuneResult
from cfdiff.tune.run import rounds_of, tune
from cfdiff.tune.settings import TUNED, TuneSettings

Make = Callable[..., TuneSettings]


@pytest.fixture(scope="session")
def splits(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy images with a val and a test split, by patient."""
    arrays = dict(np.load(toy.data))
    patient = np.array([int(name[1:]) for name in arrays["patient"]])
    path = tmp_path_factory.mktemp("splits") / "split.npz"
    np.savez(path, **arrays, split=np.where(patient < 6, "val", "test"))
    return path


@pytest.fixture
def make(toy: Any, splits: Path, tmp_path: Path) -> Make:
    """Settings of a quick search that starts from a bad default."""

    def settings(**changes: Any) -> TuneSettings:
        quick: dict[str, Any] = {"data": str(splits), "weights": str(toy.weights), "device": "cpu", "batch_size": 8}
        bad = {"ratio": 2.0, "depth": 0.7, "steps": 4, "target": 0.8, "margin": 0.6, "retries": 1, "closed_loop": False}
        search = {"images": 6, "trials": 6, "flip": 0.6, "from_": "negative", "tune": ("ratio", "depth")}
        return TuneSettings(**{**quick, **bad, **search, "out": tmp_path / "tuned.toml", **changes})

    return settings


@pytest.fixture(scope="module")
def found(toy: Any, splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One search that the tests of its outputs share: (settings, result)."""
    folder = tmp_path_factory.mktemp("found")
    s = make.__wrapped__(toy, splits, folder)(trials=6, plot=folder / "tuned.png")  # type: ignore[attr-defined]
    return s, tune(s)


def rows(result: TuneResult, images: str) -> dict[str, Measured]:
    return {row.settings: row for row in result.comparison if row.images == images}


def test_a_bad_start_is_improved_on_and_the_goal_is_held(found: Any) -> None:
    s, result = found
    before, after = rows(result, "tuning")["start"], rows(result, "tuning")["chosen"]
    assert result.reached and after.flipped >= s.flip
    assert after.mean_abs_difference < 0.8 * before.mean_abs_difference
    held = rows(result, "held-out")
    assert held["chosen"].mean_abs_difference < held["start"].mean_abs_difference
    assert held["chosen"].change_against_start == pytest.approx(
        held["chosen"].mean_abs_difference - held["start"].mean_abs_difference, abs=1e-6
    )


def test_the_intervals_of_the_comparison_are_over_the_groups_of_its_images(found: Any, splits: Path) -> None:
    s, figures = found
    halves = open_halves(s, rounds_of(s.images))
    for images, pictures in (("tuning", halves.tuning["negative"]), ("held-out", halves.held_out["negative"])):
        groups = pictures.groups
        assert groups is not None and len(groups) == len(pictures)
        patients = dict(zip(np.load(splits)["id"], np.load(splits)["patient"], strict=True))
        assert [patients[name] for name in pictures.ids] == groups.tolist()
        for row in rows(figures, images).values():
            assert row.groups == len(np.unique(groups)) > 1 and row.intervals_over == "groups"
            hits = np.arange(row.n) < round(row.flipped * row.n)
            assert row.flipped_95 != wilson(int(hits.sum()), row.n)


def test_without_groups_the_intervals_of_the_comparison_are_over_images(
    make: Make, splits: Path, tmp_path: Path
) -> None:
    arrays = {name: values for name, values in np.load(splits).items() if name != "patient"}
    np.savez(tmp_path / "loose.npz", **arrays)
    for row in tune(make(data=str(tmp_path / "loose.npz"), trials=1, images=4)).comparison:
        assert row.groups is None and row.intervals_over == "images"
        hits = round(row.flipped * row.n)
        assert row.flipped_95 == pytest.approx(wilson(hits, row.n))


def test_the_config_holds_the_choice_and_translate_and_bag_take_it(found: Any, toy: Any, tmp_path: Path) -> None:
    s, result = found
    stored = tomllib.loads(s.out.read_text())
    assert {name: stored[name] for name in result.chosen} == result.chosen
    # What was held fixed and is no default is in it too: the choice is good only with that.
    assert stored["steps"] == 4 and stored["closed_loop"] is False and "spacing" not in stored
    given = toy.settings(tmp_path / "run.h5").model_dump(exclude=set(stored), exclude_unset=True, by_alias=True)
    settings = resolve(TranslateSettings, s.out, {**given, "data": s.data, "split": "val", "limit": 4})
    translate(settings)
    with open_result(tmp_path / "run.h5") as r:
        assert {name: r.settings[name] for name in stored} == stored
    assert resolve(BagSettings, s.out, {}).depth == stored["depth"]


def test_the_config_says_where_it_comes_from_and_names_no_path(found: Any, splits: Path) -> None:
    s, result = found
    text = s.out.read_text() + s.out.with_name("tuned.toml.trials.json").read_text()
    assert result.data_sha256 in text and all(digest in text for digest in result.models.values())
    assert "held-out, from negative, n = 6" in text and "by the judge" in text and "split 'val'" in text
    for folder in (splits.parent, s.out.parent, Path.cwd(), Path.home()):
        assert str(folder) not in text + json.dumps(result.as_json())
    assert s.plot.read_bytes()[:4] == b"\x89PNG"


def test_the_figures_of_the_choice_are_those_of_a_run_with_it(found: Any, toy: Any, tmp_path: Path) -> None:
    s, result = found
    halves = open_halves(s, rounds_of(s.images))
    cast = load_cast(s, s.data, halves.whole)
    part = halves.tuning["negative"]
    edits = Editor(cast, s.model_copy(update=result.chosen)).edit(part.images, part.ids, 1)
    assert rows(result, "tuning")["chosen"].flipped == (edits.accepting[:, 1] >= s.margin).mean()  # type: ignore[index]


def test_a_search_that_was_stopped_continues_and_ends_with_the_same_files(
    found: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    real = workflow.run_trial

    def counted(number: int, *rest: Any) -> Any:
        if number == 2 and 2 not in started:
            started.append(2)
            raise KeyboardInterrupt
        started.append(number)
        return real(number, *rest)

    monkeypatch.setattr(workflow, "run_trial", counted)
    whole, cut = found[0], make()
    assert cut.out is not None
    with pytest.raises(KeyboardInterrupt):
        tune(cut)
    assert not cut.out.exists() and cut.out.with_name("tuned.toml.trials.json").exists()
    tune(cut)
    assert started == [0, 1, 2, 2, 3, 4, 5], "finished trials are not repeated"
    for file in ("tuned.toml", "tuned.toml.trials.json"):
        assert cut.out.with_name(file).read_bytes() == whole.out.with_name(file).read_bytes()


def test_the_judge_is_asked_only_at_the_end_and_on_held_out_images(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = casts.probabilities
    real_search, s = workflow.search, make(trials=3)
    digests = {}

    def spy(model: Any, *rest: Any) -> Any:
        asked.append(model.sha256)
        return real(model, *rest)

    def watched(s: TuneSettings, cast: casts.Cast, *rest: Any) -> Any:
        digests.update(cast.hashes)
        trials = real_search(s, cast, *rest)
        assert asked and digests["judge"] not in asked
        return trials

    monkeypatch.setattr(workflow, "search", watched)
    monkeypatch.setattr("cfdiff.tune.images.probabilities", spy)
    monkeypatch.setattr("cfdiff.edit.acceptance.probabilities", spy)
    result = tune(s)
    assert asked.count(digests["judge"]) == 2, "once for the start, once for the choice"
    judged = [row.images for row in result.comparison if row.flipped_judge is not None]
    assert judged == ["held-out", "held-out"]


@pytest.mark.parametrize(
    ("name", "start", "beside", "given", "words"),
    [
        (
            "edit-to-positive.toml",
            "positive",
            "",
            {},
            "is the recipe of edits from negative alone: search with --from neg",
        ),
        ("edit-to-positive.toml", "both", "", {}, "is the recipe of edits from negative alone"),
        ("edit-to-negative.toml", "positive", "", {"mask": "auto"}, "cannot say mask = auto where edit.toml"),
        ("edit-to-negative.toml", "positive", "settle = 1", {"settle": None}, "cannot say settle = nothing where"),
    ],
)
def test_a_recipe_of_one_class_that_cannot_be_one_is_said_before_the_search(
    make: Make, tmp_path: Path, name: str, start: str, beside: str, given: dict[str, Any], words: str
) -> None:
    (tmp_path / "edit.toml").write_text(beside)
    with pytest.raises(UserError, match=words):
        tune(make(out=tmp_path / name, trials=1, from_=start, **given))
    assert not (tmp_path / name).exists()


def test_a_recipe_of_one_class_says_what_the_one_of_all_says_otherwise_and_the_other_warns_of_it(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "edit.toml").write_text("trim = 0.0\n")
    found = tune(make(out=tmp_path / "edit-to-positive.toml", trials=1, trim=0.95, from_="negative"))
    assert tomllib.loads(found.config.read_text())["trim"] == 0.95 and not found.warnings
    assert found.is_recipe
    again = tune(make(out=tmp_path / "edit.toml", trials=1, force=True))
    assert any("edit-to-positive.toml beside edit.toml stand above it" in words for words in again.warnings)


def test_settings_that_cannot_win_are_given_up_early_and_both_directions_share_one_choice(make: Make) -> None:
    # A gentle start that is good enough: most random settings change more, which the first images show.
    result = tune(make(from_="both", images=8, trials=4, flip=0.1, ratio=0.2, depth=0.3, tune=("ratio",), trim=0))
    assert result.complete < result.trials
    assert {row.from_ for row in result.comparison} == {"negative", "positive"}


def test_a_goal_that_nothing_reaches_still_gives_the_best_that_was_found(make: Make) -> None:
    s = make(scale=1e-3, flip=1.0, trials=2)  # too weak for anything to flip
    result = tune(s)
    assert not result.reached and "NOT REACHED" in s.out.read_text()  # type: ignore[union-attr]
    assert set(result.chosen) <= set(tomllib.loads(s.out.read_text()))  # type: ignore[union-attr]


def test_no_patient_is_on_both_sides_and_the_first_images_of_each_round_are_nested(make: Make) -> None:
    s = make(from_="both")
    halves = open_halves(s, rounds_of(6))
    groups = dict(zip(halves.whole.ids.tolist(), halves.whole.groups.tolist(), strict=True))  # type: ignore[union-attr]
    sides = [{groups[i] for part in side.values() for i in part.ids} for side in (halves.tuning, halves.held_out)]
    assert halves.apart == "groups" and sides[0] and sides[1] and not sides[0] & sides[1]
    assert open_halves(s, [2]).tuning["negative"].ids == open_halves(s, [2, 5]).tuning["negative"].ids[:2]
    one = open_halves(make(split="all", group_key=None, data=str(s.data)), rounds_of(6))
    assert not set(one.tuning["negative"].ids) & set(one.held_out["negative"].ids)


def test_images_without_groups_are_halved_one_by_one(make: Make, splits: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(splits))
    del arrays["patient"]
    np.savez(tmp_path / "plain.npz", **arrays)
    halves = open_halves(make(data=str(tmp_path / "plain.npz"), images=99), rounds_of(99))
    a, b = set(halves.tuning["negative"].ids), set(halves.held_out["negative"].ids)
    assert halves.apart == "images" and len(a) == len(b) == 9 and not a & b


def test_a_search_starts_from_the_settings_of_translate() -> None:
    ours, theirs = TuneSettings(), TranslateSettings()
    different = [name for name in EditSettings.model_fields if getattr(ours, name) != getattr(theirs, name)]
    assert different == ["batch_size"] and ours.batch == theirs.batch, "a search looks for no number of its own"


def test_rounds_double_and_end_with_all_images() -> None:
    assert rounds_of(64) == [8, 16, 32, 64] and rounds_of(1) == [1] and rounds_of(100) == [12, 25, 50, 100]


@pytest.mark.parametrize("split", ["test", "all"])
def test_tuning_on_test_images_is_said_to_spoil_them(make: Make, split: str) -> None:
    result = tune(make(split=split, trials=1, images=2))
    assert len(result.warnings) >= 1 and "test split" in result.warnings[0]


def test_images_that_are_not_for_testing_are_no_reason_to_warn(found: Any) -> None:
    assert not any("test split" in warning for warning in found[1].warnings)
    assert warnings(None, []) == []


def test_a_choice_that_pleases_the_checker_alone_is_called_so() -> None:
    usual = ("negative", 40, None, "images", "checker", 1.0, (0.9, 1.0), 0.01, None, 30.0)
    start = Measured("held-out", "start", *usual, flipped_judge=0.98, flipped_judge_95=(0.93, 0.99))
    chosen = Measured("held-out", "chosen", *usual, flipped_judge=0.9, flipped_judge_95=(0.8, 0.95))
    said = warnings(None, [start, chosen])
    assert len(said) == 1 and "raise --margin" in said[0]
    assert not warnings(None, [start, replace(chosen, flipped_judge=0.95)])


def test_the_start_is_called_what_it_is(tmp_path: Path) -> None:
    assert started_from(TuneSettings(weights="runs/x", batch_size=4, images=8)) == "default"
    assert started_from(TuneSettings(ratio=0.2)) == "given"
    assert started_from(TuneSettings(scale=50, tune=("ratio",))) == "given"
    (tmp_path / "edit.toml").write_text('solver = "dpm++"\nsmooth = [0.1, 0.2]\n')
    assert started_from(resolve(TuneSettings, None, {"weights": str(tmp_path)})) == "recipe"
    assert started_from(resolve(TuneSettings, None, {"weights": str(tmp_path), "steps": 9})) == "given"


def test_a_guidance_that_is_off_cannot_be_tuned() -> None:
    with pytest.raises(UserError, match="scale") as said:
        resolve(TuneSettings, None, {"scale": 0})
    assert "\n" not in str(said.value)


def no_split(make: Make, toy: Any, tmp_path: Path) -> TuneSettings:
    return make(data=str(toy.data))


def no_checker(make: Make, toy: Any, tmp_path: Path) -> TuneSettings:
    folder = tmp_path / "weights"
    folder.mkdir()
    for part in ("diffusion", "guide"):
        (folder / f"{part}.safetensors").write_bytes((toy.weights / f"{part}.safetensors").read_bytes())
    return make(weights=str(folder), guides="noisy", retries=0)


def config_there(make: Make, toy: Any, tmp_path: Path) -> TuneSettings:
    (tmp_path / "tuned.toml").write_text("steps = 3\n")
    return make()


def plot_there(make: Make, toy: Any, tmp_path: Path) -> TuneSettings:
    (tmp_path / "tuned.png").write_bytes(b"another picture")
    return make(plot=tmp_path / "tuned.png", trials=1)


def other_search(make: Make, toy: Any, tmp_path: Path) -> TuneSettings:
    tune(make(trials=1))
    for name in ("tuned.toml", "tuned.png"):
        (tmp_path / name).unlink()
    return make(trials=1, seed=7)


def damaged_log(make: Make, toy: Any, tmp_path: Path) -> TuneSettings:
    (tmp_path / "tuned.toml.trials.json").write_text('{"settings": {')
    return make(trials=1)


MISTAKES: list[tuple[Callable[..., TuneSettings], str]] = [
    (no_split, "no split 'val' to tune on .it has no splits.: name another with --split, or take --split all"),
    (no_checker, "needs a verifier or a checker"),
    (config_there, "tuned.toml exists already"),
    (plot_there, "tuned.png exists already: choose another --plot, or replace it with --force"),
    (other_search, r"other settings \(seed\)"),
    (damaged_log, "is damaged"),
    (lambda make, toy, path: make(margin=0.9, target=0.8), "raise both to it"),
    (lambda make, toy, path: make(plot=path / "plot.txt"), "should end in"),
    (lambda make, toy, path: make(from_="purple"), "--from 'purple' is no class"),
    (lambda make, toy, path: make(split="val+train"), "no split 'train' .*it has test, val"),
]


@pytest.mark.parametrize(("mistake", "words"), MISTAKES, ids=lambda value: getattr(value, "__name__", None))
def test_a_mistake_is_one_sentence_and_writes_nothing(
    make: Make, toy: Any, tmp_path: Path, mistake: Callable[..., TuneSettings], words: str
) -> None:
    s = mistake(make, toy, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("tuned*")}
    with pytest.raises(UserError, match=words) as said:
        tune(s)
    assert "\n" not in str(said.value) and str(said.value).endswith(".")
    assert {path: path.read_bytes() for path in tmp_path.glob("tuned*")} == before


@pytest.mark.parametrize("mistake", [config_there, plot_there, other_search, damaged_log])
def test_force_replaces_what_is_there(
    make: Make, toy: Any, tmp_path: Path, mistake: Callable[..., TuneSettings]
) -> None:
    s = mistake(make, toy, tmp_path)
    result = tune(s.model_copy(update={"force": True, "trials": 1}))
    assert result.trials == 1 and "ratio" in tomllib.loads((tmp_path / "tuned.toml").read_text())
    assert s.plot is None or s.plot.read_bytes()[:4] == b"\x89PNG"


def test_the_search_stops_after_the_minutes_given_but_never_before_the_start_was_tried(make: Make) -> None:
    result = tune(make(max_minutes=1e-9))
    assert result.trials == 1 and {row.n for row in result.comparison} == {1}, "on as few images as a round has"
    assert any("The time was enough for 1 of 6 images" in warning for warning in result.warnings)


def test_the_minutes_hold_with_the_comparison_and_a_trial_that_is_cut_leaves_no_trace(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    real = compare.edited

    def slow(editor: Any, pictures: Any, start: int, stop: int) -> Any:
        for outcome, saved in real(editor, pictures, start, stop):
            clock[0] += 0.01 * sum(outcome.calls)  # a hundredth of a second a call
            yield outcome, saved

    for module in (workflow, compare):
        monkeypatch.setattr(module, "edited", slow)
    monkeypatch.setattr(workflow, "Budget", lambda minutes: Budget(minutes, lambda: clock[0]))
    whole = make(trials=9, batch_size=2)
    tune(whole)
    took = clock[0]
    for share in (0.3, 0.6):
        clock[0] = 0.0
        s = make(trials=9, batch_size=2, force=True, max_minutes=share * took / 60, plot=whole.out.with_name("b.png"))  # type: ignore[union-attr]
        s.out.with_name("tuned.toml.trials.json").unlink()  # type: ignore[union-attr]
        result = tune(s)
        assert clock[0] <= share * took and result.trials < 9
        log = json.loads(s.out.with_name("tuned.toml.trials.json").read_text())  # type: ignore[union-attr]
        assert len(log["trials"]) == result.trials
        assert (
            len({len(o["change"]) for t in log["trials"] if t["state"] == "complete" for o in t["outcome"].values()})
            == 1
        )
        held = [row.n for row in result.comparison if row.images == "held-out"]
        assert len(set(held)) == 1, "start and choice have seen the same"


@pytest.fixture(scope="session")
def verified(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy models with a verifier: what is the judge elsewhere."""
    folder = tmp_path_factory.mktemp("verified")
    for role, file in (("diffusion", "diffusion"), ("guide", "guide"), ("checker", "checker"), ("verifier", "judge")):
        (folder / f"{role}.safetensors").write_bytes((toy.weights / f"{file}.safetensors").read_bytes())
    return folder


def test_the_verifier_decides_where_there_is_one(make: Make, verified: Path) -> None:
    s = make(weights=str(verified), trials=2)
    result = tune(s)
    halves = open_halves(s, rounds_of(s.images))
    cast = load_cast(s, s.data, halves.whole)
    part = halves.tuning["negative"]
    edits = Editor(cast, s.model_copy(update=result.chosen)).edit(part.images, part.ids, 1)
    row = rows(result, "tuning")["chosen"]
    x = to_model(edits.counterfactual)
    assert result.decided_by == row.decided_by == "verifier" and set(row.verdicts) == {"verifier", "checker"}
    assert row.flipped == (casts.probabilities(cast.verifier, x)[:, 1] >= s.margin).float().mean()  # type: ignore[arg-type]
    assert row.flipped_checker == (casts.probabilities(cast.checker, x)[:, 1] >= s.margin).float().mean()  # type: ignore[arg-type]
    assert "by the verifier" in s.out.read_text() and "by the checker" in s.out.read_text()  # type: ignore[union-attr]
    with pytest.raises(UserError, match="Edits end where the verifier gives 0.8"):
        tune(make(weights=str(verified), margin=0.9, out=s.out.with_name("b.toml")))  # type: ignore[union-attr]


def test_the_default_search_tries_solvers_guides_and_ways_of_editing_and_takes_what_is_given_up(
    make: Make, tmp_path: Path
) -> None:
    s = make(tune=TUNED, trials=4, images=4, redraws=1, redraw_steps=4, redraw_times=1, out=tmp_path / "all.toml")
    result = tune(s)
    assert set(result.chosen) == set(TUNED) - {"w"} and not any("Not searched" in words for words in result.warnings)
    tried = [line["values"] for line in json.loads((tmp_path / "all.toml.trials.json").read_text())["trials"]]
    assert (tried[1]["solver"], tried[1]["steps"], tried[2]["edit"]) == ("dpm++", 8, "anchored+regenerate")
    assert resolve(TranslateSettings, tmp_path / "all.toml", {}).solver == result.chosen["solver"]
    assert json.loads((tmp_path / "all.toml.trials.json").read_text())["trials"][1]["state"] == "complete"
    named = tune(make(tune=("ratio", "w"), trials=1, images=1, out=tmp_path / "w.toml"))
    assert any("leave no choice for it: w" in words for words in named.warnings)


def test_with_a_diffusion_model_that_knows_the_classes_its_guide_and_weight_are_searched(
    make: Make, toy: Any, toys: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "told"
    shutil.copytree(toy.weights, folder)
    config = UNetConfig(channels=1, size=(16, 16), width=8, mult=(1, 2), attention=(), classes=2)
    data = {"classes": list(toys.CLASSES)}
    card = Card("diffusion", config.model_dump(), toys.SCHEDULE.config, data, {}, condition="class")
    save_model(folder / "diffusion.safetensors", UNet(config), card)
    s = make(weights=str(folder), tune=("guides", "w"), trials=8, images=1, retries=0, steps=2, depth=0.2)
    result = tune(s)
    tried = [line["values"] for line in json.loads((tmp_path / "tuned.toml.trials.json").read_text())["trials"]]
    assert set(result.chosen) == {"guides", "w"} and any("cfg" in values["guides"] for values in tried)
    assert all(values["w"] == s.w for values in tried if "cfg" not in values["guides"]), "it does nothing there"


def test_the_front_is_that_of_the_log_and_a_member_is_picked_without_an_edit(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = make(trials=5, flip=0.1)
    result = tune(s)
    assert {member.k for member in result.front} == set(range(1, len(result.front) + 1))
    assert [member.trial for member in result.front if member.values == result.start][:1] in ([], [0])
    best = min(result.front, key=lambda member: member.change)
    assert result.front[0] == best and any(member.reached for member in result.front)
    assert all(member.flipped_95[0] <= member.flipped <= member.flipped_95[1] for member in result.front)
    log = s.out.with_name("tuned.toml.trials.json").read_bytes()  # type: ignore[union-attr]
    monkeypatch.setattr("cfdiff.edit.editor.Editor.edit", None)
    k = len(result.front)
    picked = tune(s.model_copy(update={"pick": k, "force": True}))
    assert picked.chosen == result.front[-1].values and picked.front == result.front and picked.picked == k
    assert {row.images for row in picked.comparison} == {"tuning"}
    stored = tomllib.loads(s.out.read_text())  # type: ignore[union-attr]
    assert {name: stored[name] for name in picked.chosen} == picked.chosen
    assert s.out.with_name("tuned.toml.trials.json").read_bytes() == log  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"other settings \(images\)"):
        tune(s.model_copy(update={"pick": 1, "force": True, "images": 5}))


def test_a_search_may_write_the_recipe_of_its_models_and_goes_on_from_its_own_start(
    toy: Any, splits: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(toy.weights, folder)
    given: dict[str, Any] = {"data": str(splits), "weights": str(folder), "device": "cpu", "from": "negative"}
    quick = {"steps": 4, "retries": 0, "images": 2, "trials": 2, "tune": ("ratio",), "redraw_ratio": math.inf}
    s = resolve(TuneSettings, None, {**given, **quick, "out": folder / "edit.toml"})
    result = tune(s)
    run = resolve(TranslateSettings, None, {"weights": str(folder)})
    assert result.recipe["steps"] == 4 and result.recipe["redraw_ratio"] is None
    assert all(getattr(run, name) == value for name, value in result.recipe.items())
    again = resolve(
        TuneSettings, None, {**given, **quick, "out": str(folder / "edit.toml"), "trials": 3, "force": True}
    )
    assert again.model_copy(update={"trials": 2, "force": False}) == s, "its own recipe is not where it starts"
    result = tune(again)
    assert result.trials == 3
    elsewhere = resolve(TuneSettings, None, {**given, "out": tmp_path / "new.toml"})
    assert elsewhere.steps == 4 and elsewhere.ratio == result.recipe["ratio"], "another search starts from it"


def test_a_log_of_another_form_is_of_another_search(make: Make) -> None:
    s = make(trials=1)
    s.out.with_name("tuned.toml.trials.json").write_text('{"settings": {"seed": 0}, "trials": [{"checker": [1]}]}')  # type: ignore[union-attr]
    with pytest.raises(UserError, match="is of a search with other settings"):
        tune(s)
