from __future__ import annotations

import gc
import multiprocessing
import os
import random
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.data.values import to_model
from cfdiff.edit.cast import probabilities
from cfdiff.edit.editor import Editor
from cfdiff.errors import UserError
from cfdiff.evaluate.run import evaluate
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics.intervals import share_interval
from cfdiff.models.checkpoint import load_model
from cfdiff.store import open_result
from cfdiff.translate import run as workflow
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings
from cfdiff.translate.summary import summarise

CLASSES = ("healthy", "sick")


def datasets(path: Path) -> dict[str, bytes]:
    """The bytes of every data set of a result."""
    found: dict[str, bytes] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            values = item.asstr()[:] if h5py.check_string_dtype(item.dtype) else item[:]
            found[name] = "\n".join(values).encode() if values.dtype == object else values.tobytes()

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def images(path: Path) -> np.ndarray:
    with open_result(path) as r:
        return r.counterfactual[:]


def by_id(path: Path, name: str) -> dict[str, np.ndarray]:
    with open_result(path) as r:
        return dict(zip(r["id"][:], r[name][:], strict=True))


@pytest.fixture(scope="module")
def undisturbed(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run.h5"
    translate(toy.settings(out))
    return out


def test_guidance_changes_every_image_and_scale_0_changes_none(toy: Any, undisturbed: Path, tmp_path: Path) -> None:
    translate(toy.settings(tmp_path / "0.h5", scale=0, retries=0, factual=True))
    with open_result(tmp_path / "0.h5") as r:
        assert r.counterfactual[:].tobytes() == r.source[:].tobytes() == r["factual"][:].tobytes()
        assert not r.difference[:].any()
    with open_result(undisturbed) as r:
        assert (r.counterfactual[:] != r.source[:]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("start", ["healthy", "positive"])
def test_both_judge_and_checker_move_to_the_class_that_was_asked_for(toy: Any, tmp_path: Path, start: str) -> None:
    out = tmp_path / "run.h5"
    figures = translate(toy.settings(out, from_=start))
    target = 1 if start == "healthy" else 0
    with open_result(out) as r:
        assert set(r["target"][:]) == {target} and set(r["label"][:]) == {1 - target}
        for who in ("checker", "judge"):
            before, after = r.prob(who)[:, :, target].mean(axis=0)
            assert after > before
        assert r.attrs["direction"].endswith(("(sick)", "(healthy)")[1 - target])
    assert figures.flipped_checker > figures.target_before_checker


@pytest.mark.parametrize("size", [1, 7, 32])
def test_a_result_does_not_depend_on_the_batch_size(toy: Any, undisturbed: Path, tmp_path: Path, size: int) -> None:
    translate(toy.settings(tmp_path / "run.h5", batch_size=size))
    assert_the_same_but_for_rounding(images(tmp_path / "run.h5"), images(undisturbed))


def assert_the_same_but_for_rounding(a: np.ndarray, b: np.ndarray) -> None:
    """All but a few images agree to a gray level, most of them in every pixel.

    Kernels sum in another order for another batch (1e-7), which tips a value between two gray levels. More than that
    comes of it where a unit of a guide's ReLU sits on its kink: then the gradient, and a whole image, turn. The toy
    guides have 16 units at their end, so one in a hundred images does that; smooth guides never (test_edit.py).
    """
    off = np.abs(a.astype(int) - b).reshape(len(a), -1)
    same = off.max(axis=1) <= 1
    assert same.mean() >= 0.75 and (off[same] > 0).mean() < 1e-2


@pytest.mark.parametrize("options", [{}, {"eta": 0.8}, {"solver": "ddpm"}, {"inversion": "noise"}], ids=str)
def test_a_result_does_not_depend_on_the_order_of_the_images(toy: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    arrays = dict(np.load(toy.data))
    order = np.random.default_rng(0).permutation(len(arrays["images"]))
    np.savez(tmp_path / "shuffled.npz", **{key: array[order] for key, array in arrays.items()})
    translate(toy.settings(tmp_path / "a.h5", **options))
    translate(toy.settings(tmp_path / "b.h5", data=str(tmp_path / "shuffled.npz"), **options))
    a, b = by_id(tmp_path / "a.h5", "counterfactual"), by_id(tmp_path / "b.h5", "counterfactual")
    assert a.keys() == b.keys() and list(a) != list(b)
    assert_the_same_but_for_rounding(np.stack([a[i] for i in a]), np.stack([b[i] for i in a]))


def test_another_seed_gives_other_noise_and_the_same_one_the_same_bytes(toy: Any, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        # Plain: an anchored decode takes the same noise on both paths, so most of it cancels.
        translate(toy.settings(tmp_path / f"{name}.h5", eta=1.0, seed=seed, retries=0, anchored=False))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert (images(tmp_path / "a.h5") != images(tmp_path / "c.h5")).any()


def test_the_verdicts_are_those_of_the_saved_values_and_the_judges_decides(toy: Any, undisturbed: Path) -> None:
    with open_result(undisturbed) as r:
        for who in ("checker", "judge"):
            model = load_model(toy.weights / f"{who}.safetensors")
            for stage, name in enumerate(("source", "counterfactual")):
                p = probabilities(model, to_model(r[name][:])).numpy()
                assert np.allclose(r.prob(who)[:, stage], p, atol=1e-5)
        judged = r.prob("judge")[:, 1, 1] > 0.5
        assert (r["flipped"][:] == judged).all()
        assert (r["status"][:] == np.where(judged, "ok", "not flipped")).all()
        difference = (r.counterfactual[:].astype(float) - r.source[:]) / 255
        assert np.allclose(r.difference[:], difference, atol=1e-3)


def test_a_result_names_no_path_and_no_clock_time(toy: Any, undisturbed: Path, tmp_path: Path) -> None:
    content = undisturbed.read_bytes()
    for folder in (toy.data.parent, toy.weights, undisturbed.parent, Path.cwd(), Path.home()):
        assert str(folder).encode() not in content
    with open_result(undisturbed) as r:
        assert r.settings["data"] == "toy.npz" and set(r.attrs["models"]) == {"diffusion", "guide", "checker", "judge"}
        assert not {"out", "weights", "diffusion", "device", "threads"} & set(r.settings)
        assert "/" not in str(r.settings)
    # Another place for the data, the weights and the result, at another time: the same file.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "toy.npz").write_bytes(toy.data.read_bytes())
    for path in toy.weights.iterdir():
        (elsewhere / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "other.h5"
    translate(toy.settings(out, data=str(elsewhere / "toy.npz"), weights=str(elsewhere)))
    assert out.read_bytes() == content


def test_ids_groups_and_depth_travel_with_the_images(undisturbed: Path) -> None:
    with open_result(undisturbed) as r:
        ids, groups = r["id"][:].tolist(), r["group"][:].tolist()
        assert ids == [f"cell/{i:03d}.png" for i in range(0, 48, 2)]
        assert groups == [f"P{i // 6}" for i in range(0, 48, 2)]
        schedule = load_schedule(r.attrs["schedule"])
        levels = [schedule.level_of(round(float(d), 6)) for d in r["guidance/depth"][:]]
        assert np.allclose(r["guidance/alpha_bar"][:], schedule.alpha_bar[levels])


def test_the_name_of_a_pair_travels_with_its_image_and_is_not_there_without_pairs(
    toy: Any, toys: Any, undisturbed: Path, tmp_path: Path
) -> None:
    pairs = np.array([f"p{i // 2}" for i in range(12)])
    data = toys.write_npz(tmp_path / "pairs.npz", 12, pair=pairs)
    out = tmp_path / "run.h5"
    translate(toy.settings(out, data=str(data), from_="sick", limit=4, batch_size=3))
    with open_result(out) as r:
        number = [int(name[5:8]) for name in r["id"][:]]
        assert r["pair"][:].tolist() == [f"p{i // 2}" for i in number] and all(i % 2 for i in number)
    with open_result(undisturbed) as r:
        assert "pair" not in r


def load_schedule(config: dict[str, Any]) -> Any:
    from cfdiff.engine import NoiseSchedule

    return NoiseSchedule.from_config(config)


def test_the_masks_of_the_data_keep_the_outside_byte_for_byte(toy: Any, tmp_path: Path) -> None:
    translate(toy.settings(tmp_path / "run.h5", from_="positive", mask="data"))
    masks = np.load(toy.data)["masks"][1::2]
    with open_result(tmp_path / "run.h5") as r:
        before, after = r.source[:], r.counterfactual[:]
        assert (r["mask"][:] == masks).all()
    assert (before[~masks] == after[~masks]).all() and (before[masks] != after[masks]).any()


def test_the_automatic_mask_is_in_the_result_and_keeps_the_outside_byte_for_byte(toy: Any, tmp_path: Path) -> None:
    translate(toy.settings(tmp_path / "run.h5", mask="auto"))
    with open_result(tmp_path / "run.h5") as r:
        masks, before, after = r["mask"][:], r.source[:], r.counterfactual[:]
    assert masks.any(axis=(1, 2)).all() and not masks.all()
    assert (before[~masks] == after[~masks]).all() and (before[masks] != after[masks]).any()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_16_bit_and_float_images_come_back_as_they_came(toy: Any, tmp_path: Path, dtype: str) -> None:
    arrays = dict(np.load(toy.data))
    unit = arrays["images"] / 255
    arrays["images"] = unit.astype(np.float32) if dtype == "float32" else np.rint(unit * 65535).astype(np.uint16)
    np.savez(tmp_path / "deep.npz", **arrays)
    for name, scale in (("edited", 20.0), ("same", 0.0)):
        settings = toy.settings(tmp_path / f"{name}.h5", data=str(tmp_path / "deep.npz"), scale=scale, limit=6)
        translate(settings.model_copy(update={"preview": tmp_path / f"{name}.png"}))
    with open_result(tmp_path / "edited.h5") as r:
        assert r.source.dtype == r.counterfactual.dtype == dtype
        model = load_model(toy.weights / "judge.safetensors")
        after = probabilities(model, to_model(r.counterfactual[:])).numpy()
        assert np.allclose(r.prob("judge")[:, 1], after, atol=1e-5)
    with open_result(tmp_path / "same.h5") as r:
        assert r.counterfactual[:].tobytes() == r.source[:].tobytes()


def test_colour_images_work_from_end_to_end(toy_rgb: Any, tmp_path: Path) -> None:
    figures = translate(toy_rgb.settings(tmp_path / "run.h5", preview=tmp_path / "run.png"))
    with open_result(tmp_path / "run.h5") as r:
        assert r.counterfactual.shape == (8, 16, 16, 3) and r.counterfactual.dtype == np.uint8
    assert figures.mean_abs_difference > 0 and (tmp_path / "run.png").stat().st_size > 0


def test_the_source_is_read_batch_by_batch_and_one_more_is_alive_at_most_while_it_is_written(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    alive: list[weakref.ref[np.ndarray]] = []
    most = []
    original = Source.read

    def watched(self: Source, indices: Any) -> np.ndarray:
        gc.collect()
        most.append(sum(ref() is not None for ref in alive))
        batch = original(self, indices).copy()
        read.extend(np.asarray(indices).tolist())
        alive.append(weakref.ref(batch))
        return batch

    monkeypatch.setattr(Source, "read", watched)
    translate(toy.settings(tmp_path / "run.h5", batch_size=4, retries=0, steps=2))
    assert read[:24] == list(range(24)), "each image once: no scan before the first edit"
    assert read[24:] == list(range(24)) and len(most) == 12, "then the real ones of the other class, for the recall"
    assert max(most) <= 1, "of earlier batches the last alone is alive, until it is written"


# Stopping and going on


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """A context whose processes are forked from one that has the imports behind it, so that they start at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cfdiff.translate.run", "timm"])
    yield context


def alone(settings: TranslateSettings) -> Any:
    return settings.model_copy(update={"threads": 1})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kill_9_at_any_moment_and_the_same_command_again_give_the_same_data(
    toy: Any, tmp_path: Path, processes: Any, seed: int
) -> None:
    out, rng = tmp_path / "run.h5", random.Random(seed)
    settings = alone(toy.settings(out, batch_size=3))
    for _ in range(4):
        if out.exists():
            break
        process = processes.Process(target=translate, args=(settings,))
        process.start()
        # Some part further on, so that kills fall all over the run on any machine, and then some moment.
        wait_for_parts(out, process, parts_of(out) + rng.randrange(3))
        process.join(rng.uniform(0, 0.1))
        process.kill()
        process.join()
    if not out.exists() or out.with_name("run.h5.parts").exists():
        translate(toy.settings(out, batch_size=3))
    translate(toy.settings(tmp_path / "undisturbed.h5", batch_size=3))
    assert datasets(out) == datasets(tmp_path / "undisturbed.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.h5", "undisturbed.h5"]


def parts_of(out: Path) -> int:
    return len(list(out.parent.glob(f"{out.name}.parts/part-*.h5")))


def wait_for_parts(out: Path, process: Any, count: int) -> None:
    """Until `count` parts are there or the process has ended."""
    while process.is_alive() and parts_of(out) < count:
        process.join(0.01)


@pytest.mark.slow
def test_of_two_processes_with_one_output_one_does_it_all(
    toy: Any, undisturbed: Path, tmp_path: Path, processes: Any
) -> None:
    out = tmp_path / "run.h5"
    settings = alone(toy.settings(out))
    both = [processes.Process(target=translate, args=(settings,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    # The second is told that the first is at work, or finds what it has made.
    assert sorted(process.exitcode for process in both) in ([0, 1], [0, 0])
    assert datasets(out) == datasets(undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


class Stopped(Exception):
    pass


def stop_after(count: int) -> Any:
    def progress(what: str, done: int, n: int) -> None:
        if done >= count:
            raise Stopped

    return progress


def test_a_stopped_run_goes_on_where_it_stopped(toy: Any, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    with pytest.raises(Stopped):
        translate(toy.settings(out), stop_after(8))  # while the second is being written
    assert not out.exists()
    seen: list[tuple[int, int]] = []
    translate(toy.settings(out), lambda what, done, n: seen.append((done, n)))
    assert seen == [(24, 24)], "two of three batches were there"
    assert out.read_bytes() == undisturbed.read_bytes()


def test_going_on_with_other_settings_is_refused_and_they_are_named(toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    with pytest.raises(Stopped):
        translate(toy.settings(out), stop_after(8))
    with pytest.raises(
        UserError, match=r"scale was 20\.0, now 10\.0; .*steps was 6, now 5|steps was 6, now 5; .*scale"
    ):
        translate(toy.settings(out, steps=5, scale=10))
    with pytest.raises(UserError, match=r"models\.judge was"):
        translate(
            toy.settings(out, judge=toy.weights / "checker.safetensors", checker=toy.weights / "judge.safetensors")
        )
    translate(toy.settings(out, steps=5, scale=10, force=True))
    with open_result(out) as r:
        assert r.settings["steps"] == 5


def test_a_finished_file_is_replaced_with_force_only(toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    translate(toy.settings(out, limit=2, retries=0))
    before = out.read_bytes()
    assert translate(toy.settings(out, limit=2, retries=0)).seconds_per_image is None, "the same again finds it there"
    with pytest.raises(UserError, match="--force"):
        translate(toy.settings(out, limit=3))
    assert out.read_bytes() == before and os.listdir(tmp_path) == ["run.h5"]
    translate(toy.settings(out, limit=2, retries=0, scale=0, force=True))
    with open_result(out) as r:
        assert r.counterfactual[:].tobytes() == r.source[:].tobytes()


def test_a_finished_run_gets_its_preview_without_being_made_again(toy: Any, tmp_path: Path) -> None:
    out, picture = tmp_path / "run.h5", tmp_path / "run.png"
    translate(toy.settings(out, limit=2, retries=0))
    before = out.read_bytes()
    figures = translate(toy.settings(out, limit=2, retries=0, preview=picture))
    assert picture.stat().st_size > 0 and figures.seconds_per_image is None
    with pytest.raises(UserError, match="--force"):
        translate(toy.settings(out, limit=3, preview=picture))
    assert out.read_bytes() == before


def test_a_damaged_image_is_named_when_its_part_is_read_and_the_parts_before_it_stay(toy: Any, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name, value in (("negative", 40), ("positive", 200)):
        (folder / name).mkdir(parents=True)
        for i in range(9):
            Image.fromarray(np.full((16, 16), value + i, np.uint8)).save(folder / name / f"{i}.png")
    last = folder / "negative" / "8.png"
    whole = last.read_bytes()
    last.write_bytes(whole[:45])  # the header is whole
    settings = toy.settings(tmp_path / "run.h5", data=str(folder), batch_size=4, retries=0, steps=2)
    steps: list[int] = []
    for expected in ([4], []):  # the second is written while the third is met
        steps.clear()
        with pytest.raises(UserError, match=r"negative/8\.png cannot be read as an image"):
            translate(settings, lambda what, done, n: steps.append(done))
        assert steps == expected, "what is done is not done again"
        parts = {path.name: path.read_bytes() for path in (tmp_path / "run.h5.parts").glob("part-*.h5")}
        assert sorted(parts) == ["part-00000000.h5", "part-00000004.h5"] and not (tmp_path / "run.h5").exists()
    last.write_bytes(whole)  # other data than the run was begun with: said, and nothing is thrown away unasked
    with pytest.raises(UserError, match="data_sha256 was .*--force"):
        translate(settings)
    assert parts == {path.name: path.read_bytes() for path in (tmp_path / "run.h5.parts").glob("part-*.h5")}
    translate(settings.model_copy(update={"force": True}))
    with open_result(tmp_path / "run.h5") as r:
        assert len(r) == 9


def test_a_damaged_mask_is_named_when_its_part_is_read_and_the_parts_before_it_stay(toy: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = ["path,label,mask"]
    for i in range(12):
        value = 40 if i % 2 else 200
        Image.fromarray(np.full((16, 16), value + i, np.uint8)).save(tmp_path / "data" / f"{i}.png")
        Image.fromarray(np.full((9 if i == 11 else 16, 16), 255, np.uint8)).save(tmp_path / "data" / f"m{i}.png")
        rows.append(f"{i}.png,{'positive' if i % 2 else 'negative'},m{i}.png")
    (tmp_path / "data" / "list.csv").write_text("\n".join(rows))
    steps: list[int] = []
    settings = toy.settings(
        tmp_path / "run.h5", data=str(tmp_path / "data" / "list.csv"), from_="positive", mask="data"
    )
    with pytest.raises(UserError, match="m11.png is 9x16"):
        translate(settings.model_copy(update={"batch_size": 2}), lambda what, done, n: steps.append(done))
    assert steps == [2] and not (tmp_path / "run.h5").exists()
    assert len(list((tmp_path / "run.h5.parts").glob("part-*.h5"))) == 2


# Recall


def test_the_recall_beside_a_flip_rate_is_of_the_same_model_on_real_images_of_the_class(
    toy: Any, undisturbed: Path
) -> None:
    real = open_source(toy.data, from_label=1)
    with open_result(undisturbed) as r:
        assert set(r.recall) == {"judge", "checker"}
        for role, found in r.recall.items():
            p = probabilities(load_model(toy.weights / f"{role}.safetensors"), to_model(real.read(np.arange(24))))
            known = p.numpy()[:, 1] > 0.5
            assert found.share == known.mean() and found.n == 24 and found.over == "groups"
            assert (found.low, found.high) == share_interval(known, real.groups)
    told = summarise(undisturbed)
    assert f"{told.recall['judge'].share:.1%}  (95 % interval" in str(told) and "recall of the checker" in str(told)
    assert told.as_json()["recall"]["judge"] == told.recall["judge"].as_json()


def test_recall_is_of_the_split_of_the_run_whatever_its_limit(toy: Any, tmp_path: Path) -> None:
    arrays = dict(np.load(toy.data))
    arrays["split"] = np.array(["train", "test", "test"])[np.arange(48) // 16]
    np.savez(tmp_path / "split.npz", **arrays)
    translate(toy.settings(tmp_path / "run.h5", data=str(tmp_path / "split.npz"), limit=1, steps=2, retries=0))
    with open_result(tmp_path / "run.h5") as r:
        assert len(r) == 1 and r.recall["judge"].n == 16


def test_without_a_real_image_of_the_class_there_is_no_recall(toy: Any, tmp_path: Path) -> None:
    arrays = dict(np.load(toy.data))
    healthy = arrays["labels"] == "healthy"
    np.savez(tmp_path / "healthy.npz", **{k: v[healthy] for k, v in arrays.items()}, classes=np.array(CLASSES))
    told = translate(toy.settings(tmp_path / "run.h5", data=str(tmp_path / "healthy.npz"), limit=1, steps=2))
    assert told.recall == {} and "recall" not in str(told)
    with h5py.File(tmp_path / "run.h5") as file:
        assert "recall" not in file.attrs


# Which images


def test_the_test_split_is_the_default_and_a_limit_is_spread_over_the_groups(toy: Any, tmp_path: Path) -> None:
    arrays = dict(np.load(toy.data))
    arrays["split"] = np.array(["train", "test", "test"])[np.arange(48) // 16]
    np.savez(tmp_path / "split.npz", **arrays)
    settings = toy.settings(tmp_path / "run.h5", data=str(tmp_path / "split.npz"))
    source, target, _ = workflow.select_images(settings)
    assert target == 1 and set(source.splits) == {"test"} and len(source) == 16  # type: ignore[arg-type]
    few, *_ = workflow.select_images(settings.model_copy(update={"limit": 4}))
    assert len(few) == 4 and len(set(few.groups)) == 4  # type: ignore[arg-type]
    train, *_ = workflow.select_images(settings.model_copy(update={"split": "train+test"}))
    assert len(train) == 24
    arrays["split"] = np.array(["Training", "Testing", "Testing"])[np.arange(48) // 16]
    np.savez(tmp_path / "split.npz", **arrays)
    source, *_ = workflow.select_images(settings)
    assert set(source.splits) == {"Testing"}, "however it is spelled"  # type: ignore[arg-type]


@pytest.mark.parametrize("start, to", [("sick", "healthy"), ("positive", None), ("sick", "negative")])
def test_a_class_goes_by_its_name_or_by_its_side(toy: Any, tmp_path: Path, start: str, to: str | None) -> None:
    source, target, _ = workflow.select_images(toy.settings(tmp_path / "run.h5", from_=start, to=to))
    assert target == 0 and set(source.labels) == {1}
    assert workflow.direction(source, target) == "positive (sick) -> negative (healthy)"


def test_without_a_name_the_result_lies_in_runs(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    translate(toy.settings(tmp_path / "x.h5").model_copy(update={"out": None, "limit": 1, "retries": 0}))
    assert (tmp_path / "runs" / "healthy-to-sick.h5").is_file()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    Path("runs").write_text("a file")
    with pytest.raises(UserError, match="Cannot make the folder runs"):
        translate(toy.settings(tmp_path / "x.h5").model_copy(update={"out": None}))


def test_a_class_name_with_a_slash_is_no_folder_of_the_default_result(toy: Any, tmp_path: Path) -> None:
    source, target, _ = workflow.select_images(toy.settings(tmp_path / "run.h5"))
    odd = replace(source, classes=("in/out", "sick"))
    assert workflow._default_out(odd, target) == Path("runs/in-out-to-sick.h5")


def test_one_image_is_enough(toy: Any, tmp_path: Path) -> None:
    figures = translate(toy.settings(tmp_path / "run.h5", limit=1))
    assert figures.images == 1 and figures.mean_abs_difference_95 is None
    assert torch.is_grad_enabled()


def test_a_quarantined_image_stays_its_source_says_why_and_is_not_flipped(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Editor.decode

    def overflow(self: Editor, path: Any, ids: Any, *rest: Any) -> Any:
        found = decode(self, path, ids, *rest)
        found.z[[i for i, name in enumerate(ids) if name == "cell/001.png"]] = float("nan")
        return found

    monkeypatch.setattr(Editor, "decode", overflow)
    figures = translate(toy.settings(tmp_path / "run.h5", from_="positive", to="negative"))
    monkeypatch.undo()
    with open_result(tmp_path / "run.h5") as r:
        row = r["id"][:].tolist().index("cell/001.png")
        assert r.quarantined.sum() == figures.quarantined == 1 and r.quarantined[row]
        assert "not finite" in r["status"][row] and not r["flipped"][row]
        assert (r.counterfactual[row] == r.source[row]).all() and (r.difference[row] == 0).all()
        assert figures.flipped_judge == r["flipped"][:].mean()
    measured = evaluate(EvaluateSettings(run=tmp_path / "run.h5", weights=str(toy.weights)))
    assert measured["flip_rate_judge"].all.value == figures.flipped_judge
