from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import write_npz
from PIL import Image

from cfdiff.data.open import open_source
from cfdiff.doctor.lines import Line, Report
from cfdiff.errors import UserError
from cfdiff.fit.folder import FitFolder, State
from cfdiff.fit.plan import OF_CLASSES, SECOND, SHARES, TRAININGS
from cfdiff.fit.result import FitResult
from cfdiff.fit.run import _Runner, fit
from cfdiff.fit.settings import FitSettings
from cfdiff.fit.tuning import able
from cfdiff.models.checkpoint import read_card
from cfdiff.roles import file_hashes
from cfdiff.settings import resolve
from cfdiff.train.result import TrainResult
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings

MINUTES = 0.45
SMALL = dict.fromkeys(OF_CLASSES, "resnet14t") | {"verifier": "resnet10t", SECOND: "resnet10t", "judge": "resnet18"}


class Killed(Exception):
    """Somebody stopped it."""


@dataclass(frozen=True)
class Done:
    data: Path
    out: Path
    result: FitResult
    told: list[str]
    first: dict[str, bytes]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A fit of toy images, killed while the checker is trained, and gone on with."""
    folder = tmp_path_factory.mktemp("fit")
    data = write_npz(folder / "spots.npz", 240)
    told: list[str] = []

    def kill(what: str, done: int, n: int) -> None:
        told.append(what)
        if what.startswith("checker") and "step" in what:
            raise Killed

    s = FitSettings(data=str(data), out=folder / "out", minutes=MINUTES, device="cpu", threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfdiff.fit.pace.WIDTHS", {8: 0})
        patch.setattr("cfdiff.fit.pace.LEAST", 1)
        patch.setattr("cfdiff.fit.classifiers.ARCHITECTURES", SMALL)
        patch.setattr("cfdiff.fit.stages.SURE", 0)
        with pytest.raises(Killed):
            fit(s, kill)
        first = {role: (s.out / role / "model.safetensors").read_bytes() for role in ("diffusion", "guide")}  # type: ignore[operator]
        result = fit(s, lambda what, done, n: told.append(what))
    assert s.out is not None
    return Done(data, s.out, result, told, first)


@pytest.mark.slow
def test_a_killed_fit_goes_on_where_it_was(done: Done) -> None:
    for role, model in done.first.items():
        assert (done.out / role / "model.safetensors").read_bytes() == model, "that training had had its time"
    state = json.loads((done.out / "fit.json").read_text())
    for role in set(TRAININGS) - {SECOND}:
        assert read_card(done.out / role / "model.safetensors").training["settings"]["precision"] == state["precision"]
    used = state["used"]
    assert set(used) == {*TRAININGS, "doctor", "tune", "show"} and all(seconds > 0 for seconds in used.values())
    assert done.result.minutes == pytest.approx(sum(used.values()) / 60)
    assert any("min left in all" in what and what.startswith("judge (6 of 9)") for what in done.told)


@pytest.mark.slow
def test_the_folder_holds_all_that_an_edit_takes_and_a_card(done: Done) -> None:
    for name in ("splits.csv", "edit.toml", "edit-to-negative.toml", "edit-to-positive.toml", "card.json", "card.md"):
        assert (done.out / name).is_file()
    for start, end in (("negative", "positive"), ("positive", "negative")):
        for kind in ("h5", "png", "html", "json"):
            assert (done.out / f"{start}-to-{end}.{kind}").is_file()
    assert not (done.out / "probe.h5").exists()
    card = json.loads((done.out / "card.json").read_text())
    assert card["images"] == 240 and set(card["directions"]) == {"negative", "positive"}
    assert card["directions"]["negative"]["flipped_verifier"] is not None
    assert set(card["recipe"]) == set(card["reached"]) == {"negative", "positive"}
    assert str(done.out) not in json.dumps(card)
    assert "its recall on real ones" in (done.out / "card.md").read_text()


@pytest.mark.slow
def test_no_split_shares_a_group_and_the_card_is_of_test_images(done: Done) -> None:
    source = open_source(done.data, splits=done.out / "splits.csv")
    assert source.groups is not None and source.splits is not None
    for group in np.unique(source.groups):
        assert len(np.unique(source.splits[source.groups == group])) == 1
    with h5py.File(done.out / "negative-to-positive.h5") as file:
        shown = set(file["id"].asstr()[:].tolist())
        models = json.loads(file.attrs["models"])
    assert set(models) == set(TRAININGS) - {SECOND} and len(file_hashes(models["verifier"])) == 2
    assert shown <= set(source.ids[(source.splits == "test") & (source.labels == 0)].tolist())


@pytest.mark.slow
def test_another_fit_is_not_written_over_and_the_same_one_is_only_looked_at(done: Done, tmp_path: Path) -> None:
    other = write_npz(tmp_path / "other.npz", 240, seed=5)
    with pytest.raises(UserError, match="holds the fit of something else"):
        fit(FitSettings(data=str(other), out=done.out, device="cpu"))


@pytest.mark.slow
def test_translate_takes_the_models_and_the_recipe_from_the_folder(done: Done, tmp_path: Path) -> None:
    values: dict[str, Any] = {"data": str(done.data), "weights": str(done.out), "limit": 2, "device": "cpu"}
    s = resolve(TranslateSettings, None, values | {"out": tmp_path / "r.h5"})
    assert s.splits == done.out / "splits.csv"
    state = json.loads((done.out / "fit.json").read_text())
    for target, name in enumerate(("edit-to-negative.toml", "edit-to-positive.toml")):
        text, used = (done.out / name).read_text(), s.for_target(target).model_dump(mode="json")
        told = tomllib.loads(text)
        assert told["early"] is False and told.get("views", "none") in (state["augment"], "none")
        assert all(used[setting] == value for setting, value in told.items())
        assert f"from {('positive', 'negative')[target]!r}" in text, "the images of its own direction were searched on"
    summary = translate(s)
    assert summary.images == 2 and summary.flipped_verifier is not None
    with h5py.File(tmp_path / "r.h5") as file:
        source = open_source(done.data, split="test", splits=s.splits)
        assert set(file["id"].asstr()[:]) <= set(source.ids.tolist())
    other = tmp_path / "others.npz"
    assert resolve(TranslateSettings, None, values | {"data": str(other)}).splits is None, "of other data"


def test_a_damaged_state_is_said_and_force_begins_anew(tmp_path: Path) -> None:
    folder, of = FitFolder(tmp_path), {"data": "d", "seed": 0}
    assert folder.read(of, force=False) is None
    begun = State(of, 32, "flip", batch=64, light={"gain": 0.3}, begun=["verifier"])
    state = begun.with_time("guide", 3.0).ended("guide")
    folder.write(state)
    assert folder.read(of, force=False) == state
    before = json.loads((tmp_path / "fit.json").read_text())
    del before["batch"], before["batches"], before["precision"], before["light"], before["begun"]
    (tmp_path / "fit.json").write_text(json.dumps(before))
    (tmp_path / "diffusion").mkdir()
    (tmp_path / "diffusion" / "settings.json").write_text('{"batch_size": 16}')
    found = folder.read(of, force=False)
    assert found is not None and (found.batch, found.precision) == (16, "no"), "as a fit of before trained"
    assert (found.batches, found.light, found.begun) == ({}, {}, [])
    with pytest.raises(UserError, match="something else .its seed differs"):
        folder.read({"data": "d", "seed": 1}, force=False)
    assert folder.read({"data": "d", "seed": 1}, force=True) is None
    (tmp_path / "fit.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        folder.read(of, force=False)
    assert folder.read(of, force=True) is None


def test_models_that_no_fit_has_made_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "diffusion").mkdir()
    with pytest.raises(UserError, match="models that no fit has made"):
        FitFolder(tmp_path).read({}, force=False)


@pytest.mark.parametrize(
    ("by_level", "known"), [({"0": 0.9, "10": 0.5}, False), ({"0": 0.9, "10": 0.7}, True), ({}, True), (None, True)]
)
def test_a_guide_at_chance_in_all_noise_does_not_steer(by_level: Any, known: bool) -> None:
    assert able(TrainResult(Path("m"), 1, 1.0, val_accuracy_by_level=by_level)) is known


def test_force_takes_away_what_another_fit_left_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun(Exception):
        """The stages would begin."""

    def stop(self: Any) -> None:
        raise Begun

    monkeypatch.setattr("cfdiff.fit.run._Runner.run", stop)
    monkeypatch.setattr("cfdiff.fit.pace.WIDTHS", {8: 0})
    out = tmp_path / "out"
    kept = ("notes.txt", "edited.png", "mine/model.safetensors")
    left = ["diffusion/model.safetensors", "autoencoder/model.safetensors", "edit.toml", "edit-to-positive.toml"]
    left += ["card.md", "negative-to-positive.h5"]
    for seed, force in ((1, False), (1, True), (1, True), (2, True)):
        data = write_npz(tmp_path / f"{seed}.npz", 240, seed=seed)
        with pytest.raises(Begun):
            fit(FitSettings(data=str(data), out=out, minutes=60, device="cpu", force=force))
        if not force:
            for name in (*kept, *left):
                (out / name).parent.mkdir(exist_ok=True)
                (out / name).write_text("1")
        elif seed == 1:
            assert all((out / name).is_file() for name in (*kept, *left)), "it is the fit of the same"
    assert all((out / name).is_file() for name in kept) and not any((out / name).exists() for name in left)
    assert json.loads((out / "fit.json").read_text())["of"]["data"] == "2.npz" and (out / "splits.csv").is_file()
    splits = (out / "splits.csv").read_text()
    other = splits.replace(",train,P0,", ",test,P0,")
    assert other != splits
    (out / "splits.csv").write_text(other)
    with pytest.raises(Begun):
        fit(FitSettings(data=str(tmp_path / "2.npz"), out=out, device="cpu"))
    assert (out / "splits.csv").read_text() == other, "a fit goes on as it was divided"


def test_force_takes_no_model_away_that_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfdiff.fit.run._Runner.run", lambda self: None)
    monkeypatch.setattr("cfdiff.fit.pace.WIDTHS", {8: 0})
    judge = tmp_path / "out" / "judge" / "model.safetensors"
    judge.parent.mkdir(parents=True)
    judge.write_text("mine")
    data = write_npz(tmp_path / "d.npz", 240)
    fit(FitSettings(data=str(data), out=tmp_path / "out", device="cpu", force=True))
    assert judge.read_text() == "mine"


@pytest.mark.parametrize(("trained", "alike", "expected"), [(False, True, 0.1), (True, True, 1.0), (False, False, 1.0)])
def test_a_search_that_is_given_again_has_what_is_left_unless_its_models_or_its_beginning_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool, alike: bool, expected: float
) -> None:
    class Asked(Exception):
        """How many minutes the searches may take."""

    def train(fit: Any, role: str, minutes: float, progress: Any) -> TrainResult:
        model = fit.folder.path / role / "model.safetensors"
        model.parent.mkdir(exist_ok=True)
        model.write_text(f"{role} {trained}")
        return TrainResult(model, 1, 1.0, val_accuracy=0.9)

    def tune(fit: Any, guide: Any, minutes: float, progress: Any) -> None:
        raise Asked(minutes)

    monkeypatch.setattr("cfdiff.fit.run.train", train)
    monkeypatch.setattr("cfdiff.fit.run.check", lambda *a: None)
    monkeypatch.setattr("cfdiff.fit.run.tune", tune)
    monkeypatch.setattr("cfdiff.fit.run.goes_on", lambda fit, guide: alike)
    out = tmp_path / "out"
    for role in TRAININGS:
        (out / role).mkdir(parents=True)
        (out / role / "model.safetensors").write_text(f"{role} False")
    s = FitSettings(data=str(write_npz(tmp_path / "d.npz", 240)), out=out, device="cpu")
    source = open_source(s.data)
    of = {"data": source.name, "fingerprint": source.fingerprint, "seed": 0, "classes": list(source.classes)}
    share = 60 * s.minutes * SHARES["tune"]
    used = {name: 60 * s.minutes * part for name, part in SHARES.items() if name != "show"}
    FitFolder(out).write(State(of, 8, "none", used, tuple(used)))
    with pytest.raises(Asked) as asked:
        fit(s)
    assert 60 * asked.value.args[0] == pytest.approx(expected * share, rel=0.02)


def test_what_would_fail_after_hours_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfdiff.fit.pace.WIDTHS", {8: 0})
    own = np.array(["train"] * 120 + ["train-verifier"] * 40 + ["train-judge"] * 40 + ["val"] * 20 + ["test"] * 20)
    labels = np.where((own != "train") & (np.arange(240) % 2 == 1), "sick", "healthy")
    data = write_npz(tmp_path / "few.npz", 240, labels=labels, split=own, patient=None)
    with pytest.raises(UserError, match="The split train of few.npz has 0 images of class 'sick', and a fit needs 1"):
        fit(FitSettings(data=str(data), out=tmp_path / "a", device="cpu"))
    assert not (tmp_path / "a" / "splits.csv").exists()
    folder = tmp_path / "cells"
    for label in ("healthy", "sick"):
        (folder / label).mkdir(parents=True)
        for i in range(41):
            pixels = np.random.default_rng(i).integers(0, 256, (16, 16), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{label}{i}.png")
    with pytest.raises(UserError, match="lies in the folder of images .*cells"):
        fit(FitSettings(data=str(folder), out=folder / "fit", device="cpu"))
    assert not (folder / "fit").exists()


def test_a_card_is_written_whatever_a_measurement_says_and_holds_the_doctors_word_on_a_confound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def moved(fit: Any, start: str, progress: Any) -> float:
        if start == "positive":
            raise UserError("The mask of image 3 is a JPEG.")
        return 0.5

    def result(self: Any, trained: Any, checked: Any, found: Any, shown: Any, went: Any, unmeasured: Any) -> FitResult:
        told.append((went, unmeasured))
        return plain(self, trained, checked, {}, {}, went, unmeasured)

    plain = _Runner._result
    lines = [
        Line("confound", "warn", "a corner goes with the class", "Look at it."),
        Line("confound", "ok", "nothing"),
        Line("guide by level", "fail", "at chance", "Train it."),
        Line("values", "warn", "constant", "Remove."),
    ]
    summary = SimpleNamespace(direction="a -> b")
    monkeypatch.setattr("cfdiff.fit.run.train", lambda fit, role, m, p: TrainResult(Path(role), 1, 1.0, val_accuracy=1))
    monkeypatch.setattr("cfdiff.fit.run.check", lambda *a: Report("d", 1, tuple(lines)))
    monkeypatch.setattr("cfdiff.fit.run.tune", lambda *a: {})
    monkeypatch.setattr("cfdiff.fit.run.show", lambda *a: {"negative": summary, "positive": summary})
    monkeypatch.setattr("cfdiff.fit.run.moved", moved)
    monkeypatch.setattr(_Runner, "_result", result)
    monkeypatch.setattr("cfdiff.fit.pace.WIDTHS", {8: 0})
    data = write_npz(tmp_path / "d.npz", 240)
    found = fit(FitSettings(data=str(data), out=tmp_path / "out", device="cpu"))
    assert told == [({"negative": 0.5, "positive": None}, list(found.warnings[2:]))]
    assert found.warnings == (
        "confound: a corner goes with the class. Look at it.",
        "guide by level: at chance. Train it.",
        "a -> b: not measured further. The mask of image 3 is a JPEG.",
    )
    assert "not measured further" in (tmp_path / "out" / "card.md").read_text()
