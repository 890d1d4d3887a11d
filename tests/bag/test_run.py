from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from cfdiff.bag.run import bag, draw
from cfdiff.bag.settings import BagSettings
from cfdiff.bag.setup import set_up
from cfdiff.data.open import open_source
from cfdiff.edit.editor import Editor
from cfdiff.errors import UserError
from cfdiff.metrics.intervals import mean_interval, wilson
from cfdiff.settings import resolve
from cfdiff.store.bags import open_bags

CLASSES = ("healthy", "sick")


def settings(toy: Any, out: Path | None = None, **changes: Any) -> BagSettings:
    """A quick run on the toys: 8 patients of 3 healthy and 3 sick images."""
    quick = {"data": str(toy.data), "weights": str(toy.weights), "out": out, "device": "cpu", "batch_size": 8}
    return BagSettings(**{**quick, "steps": 6, "depth": 0.4, "retries": 2, **changes})


@pytest.fixture(scope="module")
def swept(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sweep over all patients, and its summary."""
    out = tmp_path_factory.mktemp("swept") / "bags.h5"
    return out, bag(settings(toy, out, sweep="0:1:0.25"))


def test_untouched_instances_are_byte_identical_to_the_source(toy: Any, swept: Any) -> None:
    path, figures = swept
    source = open_source(toy.data)
    row_of = {str(i): row for row, i in enumerate(source.ids)}
    copies = 0
    with open_bags(path) as bags:
        for j in range(len(bags)):
            view, sha = bags[j], bags.read("row/sha256", bags.rows(j))
            real = source.read([row_of[i] for i in view.ids])
            same = [hashlib.sha256(image.tobytes()).hexdigest() for image in real]
            assert (view.image[~view.edited] == real[~view.edited]).all()
            assert (sha[~view.edited] == np.array(same)[~view.edited]).all()
            assert (sha[view.edited] != np.array(same)[view.edited]).all()
            saved = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in view.image]
            assert sha.tolist() == saved
            copies += int((~view.edited).sum())
    assert copies > 100
    assert figures.changed_outside_edits == 0


def test_a_bag_holds_requested_planned_and_achieved_mix_as_three_numbers(swept: Any) -> None:
    with open_bags(swept[0]) as bags:
        assert len(bags) == 8 * 5
        for j in range(len(bags)):
            view = bags[j]
            n = len(view.ids)
            assert view.wanted == int(np.floor(view.requested * n + 0.5))
            assert view.planned == view.wanted / n
            assert view.before == (view.label_before == 1).mean() == 0.5
            assert view.achieved == (view.prob["judge"][:, 1, 1] > 0.5).mean()
            by_labels = np.where(view.edited, view.prob["judge"][:, 1, 1] > 0.5, view.label_before)
            assert view.achieved_by_labels == pytest.approx(by_labels.mean())
            assert (view.label[view.edited] == view.target).all()
            assert (view.label[~view.edited] == view.label_before[~view.edited]).all()


def test_the_checker_finds_the_planned_count_in_every_bag(swept: Any) -> None:
    """But where an instance cannot be flipped (its edit is in the file, unused) and none is left to replace it."""
    with open_bags(swept[0]) as bags:
        ids, failed = bags.read("instance/id"), bags.read("edit/source")[~bags.read("edit/used")]
        unable = set(ids[failed].tolist())
        exact = np.isclose(bags.read("mix/achieved_by_checker"), bags.read("mix/planned"))
        for j in range(len(bags)):
            view = bags[j]
            assert exact[j] == (view.edited.sum() == abs(view.wanted - 3))
            assert exact[j] or unable & set(view.ids)
        assert exact.mean() > 0.9


def test_a_sweep_translates_each_instance_at_most_once_a_direction(swept: Any) -> None:
    with open_bags(swept[0]) as bags:
        pairs = np.stack([bags.read("edit/source"), bags.read("edit/target")], axis=1)
        assert len(np.unique(pairs, axis=0)) == len(pairs)
        most = max(3 * 8, int(bags.read("row/edited").sum()) // 2)
        assert len(pairs) <= 2 * most
        for b in range(8):
            sets: dict[int, list[set[str]]] = {0: [], 1: []}
            for j in np.flatnonzero(bags.read("mix/bag") == b).tolist():
                view = bags[j]
                sets[view.target].append(set(view.ids[view.edited]))
            for nested in (sets[0][::-1], sets[1]):
                assert all(a <= c for a, c in zip(nested, nested[1:], strict=False))


def test_the_file_says_where_labels_come_from_and_holds_no_path_or_time(toy: Any, swept: Any) -> None:
    with open_bags(swept[0]) as bags:
        assert set(bags.read("instance/label_from")) == {"data"}
        assert set(bags.attrs) >= {
            "format",
            "format_version",
            "cfdiff_version",
            "command",
            "seed",
            "models",
            "complete",
        }
        text = str(bags.attrs)
    assert str(toy.data.parent) not in text and str(swept[0].parent) not in text


def test_the_summary_gives_intervals_and_the_judges_own_error(swept: Any) -> None:
    figures = swept[1]
    assert figures.bags == 8 and figures.bags_and_mixes == 40 and figures.instances == 48
    for name in ("achieved", "achieved_by_labels", "achieved_by_checker"):
        low, high = getattr(figures, name).exact_95
        assert low <= getattr(figures, name).exact <= high
    assert 0 <= figures.judge_error_on_real <= 1
    assert figures.mean_abs_difference > 0


def test_the_summary_counts_an_edit_once_and_its_intervals_resample_bags(swept: Any) -> None:
    path, figures = swept
    agreed: dict[int, bool] = {}
    with open_bags(path) as bags:
        of, planned = bags.read("mix/bag"), bags.read("mix/planned")
        off = np.abs(bags.read("mix/achieved") - planned)
        shown = 0
        for j in range(len(bags)):
            view = bags[j]
            seen = (view.prob["judge"][:, 1, 1] > 0.5) == (view.label == 1)
            for edit, right in zip(bags.read("row/edit", bags.rows(j))[view.edited], seen[view.edited], strict=True):
                agreed[int(edit)] = bool(right)
                shown += 1
    hits = np.array(list(agreed.values()), float)
    assert len(hits) == figures.translated < shown  # a sweep shows an edit several times
    assert figures.flipped_judge == pytest.approx(hits.mean())
    low, high = wilson(int(hits.sum()), len(hits))
    assert figures.flipped_judge_95[0] <= low and figures.flipped_judge_95[1] >= high
    assert figures.achieved.mean_off_planned_95 == mean_interval(off, of, (0, 1))


def test_bags_are_drawn_as_contact_sheets_and_several_mixes_as_a_dose_response_plot(toy: Any, tmp_path: Path) -> None:
    bag(settings(toy, tmp_path / "two.h5", mix="0.5,0.67", bags=1, retries=0, on_fail="keep"))
    drawn = draw(tmp_path / "two.h5", tmp_path / "pictures")
    assert [path.name for path in drawn] == ["P0_mix-0.5.png", "P0_mix-0.67.png", "dose-response.png"]
    assert all(path.is_file() for path in drawn)


class Stop(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(("mode", "first"), [("instance", 18), ("joint", 2)])  # joint: bags are counted
def test_a_stopped_run_continues_where_it_was_and_ends_in_the_same_bytes(
    toy: Any, tmp_path: Path, mode: str, first: int
) -> None:
    whole, halved = tmp_path / "whole.h5", tmp_path / "halved.h5"
    changes = {"mix": "0,1", "bags": 4, "batch_size": 6, "mode": mode}
    bag(settings(toy, whole, **changes))
    seen: list[int] = []

    def stop(what: str, done: int, n: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        bag(settings(toy, halved, **changes), stop)
    assert not halved.exists()
    bag(settings(toy, halved, **changes), lambda what, done, n: seen.append(done))
    # The first part, and that which was edited while it was written, or the first bag were there already.
    assert seen[0] == first and len(seen) == (2 if mode == "instance" else 7)
    assert halved.read_bytes() == whole.read_bytes()
    assert not halved.with_name("halved.h5.parts").exists()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["instance", "joint"])
def test_of_two_processes_with_one_output_one_does_it_all(toy: Any, tmp_path: Path, mode: str) -> None:
    alone, shared = tmp_path / "alone.h5", tmp_path / "shared.h5"
    changes = {"mix": "0,1", "bags": 4, "batch_size": 4, "mode": mode, "threads": 1}
    processes = multiprocessing.get_context("spawn")
    both = [processes.Process(target=bag, args=(settings(toy, shared, **changes),)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert 0 in [process.exitcode for process in both]  # the second may come after the first, and is told so
    threads = torch.get_num_threads()
    bag(settings(toy, alone, **changes))
    torch.set_num_threads(threads)
    assert shared.read_bytes() == alone.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.h5", "shared.h5"]


@pytest.mark.parametrize("mode", ["instance", "joint"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_other_pixel_types_are_kept_and_untouched_instances_too(
    toy: Any, toys: Any, tmp_path: Path, dtype: str, mode: str
) -> None:
    data = toys.write_npz(tmp_path / "deep.npz", 12, dtype=dtype)
    bag(settings(toy, tmp_path / "bags.h5", data=str(data), mix="0.8", mode=mode, on_fail="keep"))
    real = np.load(data)
    row_of = {i: row for row, i in enumerate(real["id"].tolist())}
    with open_bags(tmp_path / "bags.h5") as bags:
        edited = 0
        for j in range(len(bags)):
            view = bags[j]
            source = real["images"][[row_of[i] for i in view.ids]]
            assert view.image.dtype == view.source.dtype == np.dtype(dtype)
            assert view.image[~view.edited].tobytes() == source[~view.edited].tobytes()
            edited += int(view.edited.sum())
    assert edited


@pytest.mark.slow
def test_a_run_that_is_killed_continues_and_ends_in_the_same_bytes(toy: Any, swept: Any, tmp_path: Path) -> None:
    out = tmp_path / "killed.h5"
    options = ["--data", toy.data, "--weights", toy.weights, "--out", out, "--device", "cpu", "--sweep", "0:1:0.25"]
    options += ["--steps", 6, "--depth", 0.4, "--retries", 2, "--batch-size", 8]
    command = [sys.executable, "-m", "cfdiff", "bag", *map(str, options)]
    run = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while run.poll() is None and not list(tmp_path.glob("killed.h5.parts/*.parts/part-*.h5")):
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    bag(settings(toy, out, sweep="0:1:0.25"))
    assert out.read_bytes() == swept[0].read_bytes()


def test_a_finished_file_is_not_replaced_without_force(toy: Any, swept: Any) -> None:
    before = swept[0].read_bytes()
    assert bag(settings(toy, swept[0], sweep="0:1:0.25")).bags == swept[1].bags, "the same again finds it there"
    with pytest.raises(UserError, match="--force"):
        bag(settings(toy, swept[0], sweep="0:1:0.5"))
    assert swept[0].read_bytes() == before


def test_a_finished_file_can_be_exported_and_drawn_without_making_it_again(
    toy: Any, swept: Any, tmp_path: Path
) -> None:
    before = swept[0].stat().st_mtime_ns
    asked = {"export": ("npz", tmp_path / "npz")}
    assert bag(settings(toy, swept[0], sweep="0:1:0.25", **asked)).bags == 8
    assert len(list((tmp_path / "npz").glob("*.npz"))) == 40
    assert swept[0].stat().st_mtime_ns == before
    with pytest.raises(UserError, match="exists already"):
        bag(settings(toy, swept[0], sweep="0:1:0.5", export=("npz", tmp_path / "other")))


def test_an_instance_that_does_not_flip_is_replaced_kept_or_an_error(toy: Any, tmp_path: Path) -> None:
    """With scale 0 nothing flips."""
    powerless = {"scale": 0.0, "retries": 0, "mix": "1", "bags": 1}
    figures = bag(settings(toy, tmp_path / "replace.h5", on_fail="replace", **powerless))
    with open_bags(tmp_path / "replace.h5") as bags:
        assert not bags[0].edited.any() and (bags[0].image == bags[0].source).all()
        assert figures.replaced_failures == 3 and not bags.read("edit/used").any()
    bag(settings(toy, tmp_path / "keep.h5", on_fail="keep", **powerless))
    with open_bags(tmp_path / "keep.h5") as bags:
        assert bags[0].edited.sum() == 3 and bags.read("edit/used").all()
        assert bags[0].achieved_by_labels == 0.5
    with pytest.raises(UserError, match="were not flipped"):
        bag(settings(toy, tmp_path / "error.h5", on_fail="error", **powerless))
    assert not (tmp_path / "error.h5").exists()


def test_shams_pass_through_the_same_edit_and_keep_their_class(toy: Any, tmp_path: Path) -> None:
    bag(settings(toy, tmp_path / "sham.h5", untouched="sham", mix="0.7", bags=2))
    with open_bags(tmp_path / "sham.h5") as bags:
        for j in range(2):
            view = bags[j]
            assert view.edited.sum() == 1 and view.sham.sum() == 5
            assert (view.image != view.source).any(axis=(1, 2, 3)).all()
            assert (view.label[view.sham] == view.label_before[view.sham]).all()


def test_a_bag_that_has_its_mix_already_is_copied_whole(toy: Any, tmp_path: Path) -> None:
    figures = bag(settings(toy, tmp_path / "same.h5", mix="0.5", bags=2))
    assert figures.translated == 0 and figures.mean_abs_difference is None
    with open_bags(tmp_path / "same.h5") as bags:
        assert (bags[1].image == bags[1].source).all()


def test_drawn_bags_with_replacement_edit_an_image_once_however_often_it_is_there(toy: Any, tmp_path: Path) -> None:
    bag(settings(toy, tmp_path / "drawn.h5", mix="0.9", bag_size=60, bags=1, replacement=True))
    with open_bags(tmp_path / "drawn.h5") as bags:
        view = bags[0]
        assert len(view.ids) == 60 and len(set(view.ids)) < 48
        assert view.edited.sum() == abs(54 - (view.label_before == 1).sum())
        assert len(bags.read("edit/source")) <= view.edited.sum()


def test_instances_of_another_class_are_labelled_by_the_judge_or_left_out(toy: Any, tmp_path: Path) -> None:
    data = dict(np.load(toy.data))
    data["labels"] = np.where(np.arange(48) % 6 == 0, "odd", data["labels"])
    np.savez(tmp_path / "odd.npz", **data)
    options = {"data": str(tmp_path / "odd.npz"), "negative": "healthy", "positive": "sick"}
    setup = set_up(settings(toy, **options))
    judged = setup.label_from == "judge"
    assert judged.sum() == 8 and set(setup.instances.labels[judged]) <= {0, 1}
    assert len(set_up(settings(toy, others="drop", **options)).source) == 40


def test_data_without_labels_is_labelled_by_the_judge_in_every_layout(toy: Any, tmp_path: Path) -> None:
    arrays = {**np.load(toy.data)}
    labels = arrays.pop("labels")
    np.savez(tmp_path / "none.npz", **arrays)
    np.savez(tmp_path / "some.npz", **arrays, labels=np.where(np.arange(48) < 12, labels, ""))
    np.savez(tmp_path / "minus.npz", **arrays, labels=np.full(48, -1))
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["images"] = arrays["images"]
    (tmp_path / "flat").mkdir()
    for i, image in enumerate(arrays["images"]):
        Image.fromarray(image[..., 0]).save(tmp_path / "flat" / f"{i:03d}.png")
    (tmp_path / "flat.csv").write_text("\n".join(["path", *(f"flat/{i:03d}.png" for i in range(48))]))
    truth = (labels == "sick").astype(int)
    for name, told in {"none.npz": 0, "some.npz": 12, "minus.npz": 0, "none.h5": 0, "flat": 0, "flat.csv": 0}.items():
        setup = set_up(settings(toy, data=str(tmp_path / name), bag_size=8, bags=2))
        assert (setup.label_from == "data").sum() == told, name
        assert setup.source.classes == CLASSES
        assert (setup.instances.labels == truth).mean() > 0.9, name
        with pytest.raises(UserError):
            set_up(settings(toy, data=str(tmp_path / name), bag_size=8, others="drop", bags=20))
    assert bag(settings(toy, tmp_path / "run.h5", data=str(tmp_path / "flat"), bag_size=8, bags=1)).bags == 1


def test_a_failure_that_was_replaced_counts_once_beside_shams(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, stubborn = Editor.edit, set_up(settings(toy, mix="0.67", bags=1)).goals[0]
    first = set_up(settings(toy, mix="0.67", bags=1)).bags[0].keys[stubborn.ranking[0]]

    def stub(self: Editor, images: np.ndarray, ids: Any, target: int, masks: Any = None) -> Any:
        edits = edit(self, images, ids, target, masks)
        edits.accepting[[i for i, name in enumerate(ids) if name == first]] = [0.9, 0.1] if target else [0.1, 0.9]
        return edits

    monkeypatch.setattr(Editor, "edit", stub)
    figures = bag(settings(toy, tmp_path / "run.h5", mix="0.67", bags=1, untouched="sham", on_fail="replace"))
    assert figures.replaced_failures == 1


def test_strata_share_the_edits_and_frozen_and_listed_ids_are_kept_to(toy: Any, tmp_path: Path) -> None:
    ids = np.load(toy.data)["id"]
    (tmp_path / "frozen.txt").write_text("\n".join(ids[:6]))
    setup = set_up(settings(toy, group_key="patient", stratify="patient", freeze=tmp_path / "frozen.txt", mix="0.5"))
    assert setup.instances.frozen.sum() == 6 and set(setup.instances.strata) == {f"P{i}" for i in range(8)}
    (tmp_path / "these.txt").write_text(f"{ids[2]}\n{ids[0]}\n")
    setup = set_up(settings(toy, select=f"ids:{tmp_path / 'these.txt'}", mix="0.7", bags=1))
    goal = setup.goals[0]
    assert setup.bags[0].keys[goal.ranking].tolist() == [ids[2], ids[0]]
    assert setup.settings["select"] == {"ids": [ids[2], ids[0]]}


def test_a_sweep_with_counts_has_a_goal_for_each(toy: Any) -> None:
    asked = {"bags": 2, "counts": "1,2"}
    s = settings(toy).model_dump(exclude_unset=True)
    s.pop("mix", None)
    beside, alone = (set_up(BagSettings(**s, **asked, **more)) for more in ({"sweep": "0:1:0.5"}, {}))
    assert [goal.wanted for goal in beside.goals] == [0, 1, 2, 3, 6] * 2
    assert [goal.wanted for goal in alone.goals] == [1, 2] * 2
    assert beside.settings["counts"] == "1,2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mix": "1.5"}, "outside"),
        ({"mix": "x"}, "not a number"),
        ({"mix": "0.5", "counts": "1"}, "takes the place of --mix"),
        ({"counts": "7"}, "has 6 instances, fewer than 7 of --counts"),
        ({"bag_size": 100}, "cannot be drawn"),
        ({"group_key": "slide"}, "no column 'slide'"),
        ({"stratify": "slide"}, "no column 'slide'"),
        ({"select": "ids:nowhere.txt"}, "cannot read"),
        ({"freeze": Path("nowhere.txt")}, "cannot read"),
        ({"mode": "joint", "select": "confident"}, "--mode joint"),
        ({"feature_weights": Path("w.safetensors")}, "--features"),
        ({"preview": Path("no/such")}, "existing folder"),
    ],
)
def test_a_mistake_is_said_before_anything_is_written(
    toy: Any, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        bag(settings(toy, tmp_path / "run.h5", **changes))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_policy_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match="no policy 'best': choose of ids:, uniform, confident, borderline"):
        resolve(BagSettings, None, {"select": "best"})


def test_repeated_ids_are_refused(toy: Any, tmp_path: Path) -> None:
    data = dict(np.load(toy.data))
    data["id"][1] = data["id"][0]
    np.savez(tmp_path / "twice.npz", **data)
    with pytest.raises(UserError, match="more than once"):
        set_up(settings(toy, data=str(tmp_path / "twice.npz")))


@pytest.mark.parametrize("base", ["none", "source"])
def test_instances_are_edited_by_classifier_free_guidance(toy_told: Any, tmp_path: Path, base: str) -> None:
    s = settings(toy_told, tmp_path / "bags.h5", mix="0.67", bags=2, guides="clean+cfg", base=base)
    figures = bag(s)
    with open_bags(tmp_path / "bags.h5") as bags:
        view = bags[0]
        assert view.edited.any() and (view.image[view.edited] != view.source[view.edited]).any(axis=(1, 2, 3)).all()
        assert (view.image[~view.edited] == view.source[~view.edited]).all()
    assert figures.translated > 0
