from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from cfdiff.data.open import open_source
from cfdiff.data.split_file import write_splits
from cfdiff.data.values import to_model, unit
from cfdiff.edit.cast import probabilities
from cfdiff.errors import UserError
from cfdiff.evaluate.judge import find_judges
from cfdiff.evaluate.masks import fixed_threshold, read_masks
from cfdiff.evaluate.origin import bundled_data
from cfdiff.evaluate.realism import real_images
from cfdiff.evaluate.run import evaluate as measure
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.evaluate.trip import the_way_back
from cfdiff.models.checkpoint import load_model
from cfdiff.store import RunParts
from cfdiff.store.runs import Run, open_run

SPOT = (slice(4, 9), slice(6, 10))


def evaluate(settings: EvaluateSettings, *progress: Any) -> dict[str, Any]:
    """What --json prints."""
    return measure(settings, *progress).as_json()


def ask(model: Path, images: np.ndarray) -> np.ndarray:
    return probabilities(load_model(model), to_model(images)).numpy()


@pytest.fixture
def made(toy: Any, tmp_path: Path) -> Callable[..., Path]:
    """A result whose counterfactuals are what a function makes of the toy's sources, judged by the toy's judge."""

    def make(edit: Callable[[np.ndarray], np.ndarray], name: str = "run.h5", start: int = 1, **other: Any) -> Path:
        source = open_source(toy.data, from_label=start)
        source = source.select(other.pop("rows", np.arange(len(source))))
        images = source.read(np.arange(len(source)))
        after = edit(images)
        judge = toy.weights / "judge.safetensors"
        p = np.stack([ask(judge, images), ask(judge, after)], axis=1)
        arrays = {
            "id": source.ids,
            "group": source.groups,
            "label": source.labels,
            "target": np.full(len(source), 1 - start),
            "source": images,
            "counterfactual": after,
            "difference": unit(after) - unit(images),
            "prob/judge": p,
            "prob/checker": p[:, :, ::-1],
            "flipped": p[:, 1, 1 - start] > 0.5,
        }
        arrays = {key: value for key, value in (arrays | other).items() if value is not None}
        hashes = {"judge": hashlib.sha256(judge.read_bytes()).hexdigest(), "checker": "c"}
        settings = {"data": "toy.npz", "classes": ["healthy", "sick"], "split": None}
        with RunParts(tmp_path / name, settings, len(source), 100) as parts:
            for first, stop in parts.todo():
                parts.write(first, {k: v[first:stop] for k, v in arrays.items()})
            parts.join({"seed": 0, "models": hashes, "direction": "positive (sick) -> negative (healthy)"})
        return tmp_path / name

    return make


@pytest.fixture
def settings(toy: Any) -> Callable[..., EvaluateSettings]:
    """Quick settings of an evaluation with the toy's data and models."""

    def make(run: Path, **changes: Any) -> EvaluateSettings:
        quick = {"run": run, "data": str(toy.data), "weights": str(toy.weights), "device": "cpu"}
        return EvaluateSettings(**{**quick, "fractions": 10, "bootstrap": 200, "repeats": 2, **changes})

    return make


def darker_spot(images: np.ndarray) -> np.ndarray:
    after = images.copy()
    after[:, *SPOT] -= 20
    return after


def without_half_the_spots(images: np.ndarray) -> np.ndarray:
    """The first half becomes what a healthy image looks like; the other half stays."""
    after = images.copy()
    half = len(images) // 2
    after[:half] = np.minimum(after[:half], np.median(after[:half], axis=(1, 2, 3), keepdims=True).astype(np.uint8))
    return after


def changed(toy: Any, path: Path, rows: slice = slice(None), **changes: np.ndarray) -> Path:
    """The toy's data in a file of its own, some rows of it, with other or further arrays."""
    np.savez(path, **{k: v[rows] for k, v in {**np.load(toy.data), **changes}.items()})
    return path


def section(result: dict[str, Any], name: str, column: str = "all") -> dict[str, Any]:
    """Figure -> value."""
    figures = result["sections"][name]["figures"]
    return {key: None if f[column] is None else f[column]["value"] for key, f in figures.items()}


def test_a_counterfactual_that_is_its_source_has_no_change_and_the_judges_base_rate(
    made: Any, settings: Any, toy: Any
) -> None:
    run = made(lambda images: images.copy())
    result = evaluate(settings(run))
    source = open_source(toy.data, from_label=1)
    p = ask(toy.weights / "judge.safetensors", source.read(np.arange(len(source))))
    minimal, valid, faithful = (section(result, name) for name in ("minimal", "valid", "faithful"))
    assert minimal["mean_abs_difference"] == minimal["l2"] == minimal["changed_share"] == 0
    assert minimal["changed_regions"] == 0 and minimal["ssim"] == 1
    assert minimal["cosine_similarity"] == pytest.approx(1)
    assert valid["flip_rate_judge"] == valid["before_judge"] == (p[:, 0] > 0.5).mean()
    assert valid["gain_judge"] == 0
    assert faithful["cout"] == pytest.approx((p[:, 0] - p[:, 1]).mean(), abs=1e-6)  # nothing to insert: flat curves


def test_masks_of_exactly_the_changed_pixels_are_found_perfectly(made: Any, settings: Any, tmp_path: Path) -> None:
    run = made(darker_spot)
    for i in range(1, 48, 2):
        mask = np.zeros((16, 16), np.uint8)
        mask[SPOT] = 255
        (tmp_path / "masks" / "cell").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / "cell" / f"{i:03d}.png")
    result = evaluate(settings(run, masks=str(tmp_path / "masks"), realism=False, faithfulness=False))
    where = section(result, "where")
    assert where["auprc"] == where["auroc"] == where["auprc_per_image"] == 1
    assert where["dice_otsu"] == where["dice_oracle"] == where["pointing"] == 1
    assert where["prevalence"] == 20 / 256
    assert "empty mask" in result["sections"]["where"]["rule"]
    minimal = section(result, "minimal")
    assert minimal["changed_share"] == 20 / 256 and minimal["changed_regions"] == 1
    assert minimal["mean_abs_difference"] == pytest.approx(20 / 255 * 20 / 256)
    assert minimal["l2"] == pytest.approx(np.sqrt(20) * 20 / 255)


def test_the_saliency_of_a_file_is_scored_as_a_map_of_its_own_and_in_sum_with_the_difference_map(
    made: Any, settings: Any, tmp_path: Path
) -> None:
    spot = np.zeros((24, 16, 16), bool)
    spot[:, *SPOT] = True
    for i in range(1, 48, 2):
        (tmp_path / "masks" / "cell").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(255 * spot[0])).save(tmp_path / "masks" / "cell" / f"{i:03d}.png")
    asked = {"masks": str(tmp_path / "masks"), "realism": False, "faithfulness": False}
    blind = np.float16(~spot)  # marks everything but the spot; the difference map marks the spot alone
    where = section(evaluate(settings(made(darker_spot, saliency=blind), **asked)), "where")
    assert where["auprc"] == 1 and where["auprc_saliency"] == pytest.approx(spot.mean())
    assert where["auroc_saliency"] == 0 and where["pointing_saliency"] == 0
    half = np.float16(0.5 * ~spot)
    where = section(evaluate(settings(made(darker_spot, "half.h5", saliency=half), **asked)), "where")
    assert where["auprc_sum"] == where["auroc_sum"] == where["pointing_sum"] == 1 and where["pointing_saliency"] == 0


def test_ids_with_dots_have_masks_of_their_own(made: Any, settings: Any, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for row, name in enumerate(("P1", "P1.0012", "img_1.5", "cell.1")):
        mask = np.zeros((16, 16), np.uint8)
        mask[row] = 255
        Image.fromarray(mask).save(folder / f"{name}.png")
    ids = np.array(["P1.jpg", "P1.0012", "deep/img_1.5", "cell.1.png"])
    with open_run(made(darker_spot, rows=np.arange(4), id=ids)) as run:
        masks = read_masks(settings(run.path, masks=str(folder)), run)
    assert masks is not None and masks.any(axis=2).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_an_image_is_never_its_own_mask_and_two_images_never_share_one(
    made: Any, settings: Any, tmp_path: Path
) -> None:
    for folder in ("masks", "images"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            Image.fromarray(np.full((16, 16), 255 if folder == "images" else 0, np.uint8)).save(
                tmp_path / folder / f"{name}.png"
            )
    outside = np.array(["../images/a.png", str(tmp_path / "images" / "b.png")])
    with open_run(made(darker_spot, rows=np.arange(2), id=outside)) as run:
        masks = read_masks(settings(run.path, masks=str(tmp_path / "masks")), run)
    assert masks is not None and not masks.any()
    twins = made(darker_spot, name="twins.h5", rows=np.arange(2), id=np.array(["P1/a.png", "P2/a.png"]))
    words = r"'P1/a\.png' and 'P2/a\.png' would both get the mask a\.png of masks"
    with open_run(twins) as run, pytest.raises(UserError, match=words):
        read_masks(settings(run.path, masks=str(tmp_path / "masks")), run)


def test_flipped_images_have_a_column_of_their_own(made: Any, settings: Any) -> None:
    run = made(without_half_the_spots)
    result = evaluate(settings(run, realism=False))
    with h5py.File(run) as file:
        flipped = file["flipped"][:]
        change = np.abs(unit(file["counterfactual"][:]) - unit(file["source"][:])).mean(axis=(1, 2, 3))
    assert 0 < flipped.sum() < len(flipped) and result["flipped"] == flipped.sum()
    figure = result["sections"]["minimal"]["figures"]["mean_abs_difference"]
    assert figure["all"]["value"] == pytest.approx(change.mean(), rel=1e-5)
    assert figure["flipped"]["value"] == pytest.approx(change[flipped].mean(), rel=1e-5)
    assert figure["all"]["n"] == len(change) and figure["flipped"]["n"] == flipped.sum()
    assert figure["all"]["low"] < figure["all"]["value"] < figure["all"]["high"]
    assert figure["all"]["by"] == "Student over groups" and result["groups"] == 8


def test_the_batch_size_does_not_change_a_figure(made: Any, settings: Any) -> None:
    run = made(without_half_the_spots)
    a, b = (evaluate(settings(run, batch_size=size))["sections"] for size in (5, 24))
    for name in a:
        assert section({"sections": a}, name) == pytest.approx(section({"sections": b}, name), abs=1e-4)


def test_figures_of_another_judge_come_from_that_judge(made: Any, settings: Any, toy: Any) -> None:
    run = made(without_half_the_spots)
    other = toy.weights / "checker.safetensors"
    result = evaluate(settings(run, judge=other, realism=False, faithfulness=False))
    with h5py.File(run) as file:
        p = ask(other, file["counterfactual"][:])[:, 0]
    assert section(result, "valid")["flip_rate_judge"] == (p > 0.5).mean()
    assert not result["judge"]["of_the_run"] and "checker" in result["judge"]["name"]
    assert result["flipped"] == (p > 0.5).sum()


def test_realism_is_named_after_its_features_and_stands_beside_real_against_real(made: Any, settings: Any) -> None:
    result = evaluate(settings(made(darker_spot), faithfulness=False))
    figures = result["sections"]["realistic"]["figures"]
    for name, title in (("fid", "FID"), ("kid", "KID"), ("sfid", "sFID")):
        assert figures[name]["label"] == f"{title} (features of judge (resnet10t))"
        assert figures[f"{name}_real"]["label"] == f"{title} (features of judge (resnet10t)), real against real"
        assert figures[name]["all"]["n"] == figures[f"{name}_real"]["all"]["n"] == 12
    assert figures["fid"]["all"]["value"] > figures["fid_real"]["all"]["value"] >= 0


def test_real_images_of_the_target_class_are_as_near_as_real_ones_are(made: Any, settings: Any, toy: Any) -> None:
    healthy = open_source(toy.data, from_label=0)
    run = made(lambda images: healthy.read(np.arange(len(images))))
    figures = section(evaluate(settings(run, faithfulness=False, repeats=8)), "realistic")
    spread = figures["fid_real"]
    assert 0 < figures["fid"] < 1.5 * spread  # about half of it: these are the reference's own images
    far = section(evaluate(settings(made(darker_spot, "far.h5"), faithfulness=False, repeats=8)), "realistic")
    assert far["fid"] > 10 * spread


def test_the_runs_split_is_asked_of_a_reference_only_where_it_has_it(
    made: Any, settings: Any, toy: Any, tmp_path: Path
) -> None:
    with open_run(made(darker_spot)) as run:
        mine = dataclasses.replace(run, settings={**run.settings, "split": "val+extra"})
        split = np.array(["val"] * 40 + ["extra"] * 4 + ["rest"] * 4)
        has_it = changed(toy, tmp_path / "has.npz", split=split)
        has_test = changed(toy, tmp_path / "test.npz", split=np.array(["test"] * 36 + ["val"] * 12))
        for reference, asked, expected in (
            (has_it, None, 22),
            (has_it, "val", 20),
            (has_it, "all", 24),
            (has_test, None, 18),
            (toy.data, None, 24),
            (toy.data, "all", 24),
        ):
            real = real_images(settings(run.path, reference=str(reference), split=asked), mine)
            assert not isinstance(real, str) and len(real) == expected, (reference.name, asked)


def test_data_without_splits_has_those_of_the_fit_whose_weights_are_named(
    made: Any, settings: Any, toy: Any, tmp_path: Path
) -> None:
    weights = tmp_path / "fitted"
    shutil.copytree(toy.weights, weights)
    source = open_source(toy.data)
    write_splits(source, np.array(["test"] * 36 + ["train"] * 12), weights / "splits.csv")
    (weights / "fit.json").write_text(json.dumps({"of": {"data": toy.data.name}}))
    with open_run(made(darker_spot)) as run:
        for folder, expected in ((weights, 18), (toy.weights, 24)):
            real = real_images(settings(run.path, data=str(toy.data), weights=str(folder)), run)
            assert not isinstance(real, str) and len(real) == expected


def test_too_few_real_images_are_a_reason_and_where_they_were_asked_for_an_error(
    made: Any, settings: Any, toy: Any, tmp_path: Path
) -> None:
    few = str(changed(toy, tmp_path / "few.npz", rows=slice(30)))
    with open_run(made(darker_spot)) as run:
        reason = "15 real images of class 'healthy' in few.npz, fewer than 16: choose another --split or --reference"
        assert real_images(settings(run.path, data=few), run) == reason
    with pytest.raises(UserError, match="--realism cannot be had, there are 15 real images"):
        evaluate(settings(run.path, reference=few, realism=True))


def test_a_threshold_fixed_on_other_images_is_used_and_named(made: Any, settings: Any) -> None:
    validation = made(darker_spot, "val.h5", rows=np.arange(12))
    test = made(darker_spot, "test.h5", rows=np.arange(12, 24))
    result = evaluate(settings(test, threshold_from=validation, realism=False, faithfulness=False))
    where = result["sections"]["where"]
    assert 0 <= where["thresholds"]["validation"] < 20 / 255 and where["figures"]["dice_validation"]["all"]["n"] == 12
    assert where["figures"]["dice_validation"]["label"] == "Dice at validation threshold"
    with pytest.raises(UserError, match="shares 12 images"):
        evaluate(settings(test, threshold_from=test))


def test_images_are_shared_by_their_pixels_and_not_by_row_numbers(made: Any, settings: Any, tmp_path: Path) -> None:
    numbers = np.array([f"{i:06d}" for i in range(12)])
    mask = np.zeros((16, 16), np.uint8)
    mask[SPOT] = 255
    for number in numbers:
        Image.fromarray(mask).save(tmp_path / f"{number}.png")
    test = made(darker_spot, "test.h5", rows=np.arange(12), id=numbers)
    validation = made(darker_spot, "val.h5", rows=np.arange(12, 24), id=numbers)
    with open_run(test) as run, open_run(validation) as other:
        assert 0 <= fixed_threshold(settings(test, masks=str(tmp_path)), run, other) < 20 / 255


def test_a_threshold_of_another_way_to_edit_is_refused(made: Any, settings: Any) -> None:
    rows = {"rows": np.arange(12)}
    with open_run(made(darker_spot, "test.h5", rows=np.arange(12, 24))) as run:
        for name, changes, words in (
            ("scale.h5", {"settings": {"scale": 3.0}}, "differs from test.h5 in scale:"),
            ("models.h5", {"models": {"checker": "d", "judge": "j"}}, "differs from test.h5 in checker:"),
            ("way.h5", {"direction": "a -> b"}, "differs from test.h5 in direction:"),
        ):
            with open_run(made(darker_spot, name, **rows)) as same:
                changes = {k: {**getattr(same, k), **v} if isinstance(v, dict) else v for k, v in changes.items()}
                with pytest.raises(UserError, match=words):
                    fixed_threshold(settings(run.path), run, dataclasses.replace(same, **changes))


def test_json_and_hdf5_hold_the_figures_the_values_and_the_curves(made: Any, settings: Any, tmp_path: Path) -> None:
    run = made(without_half_the_spots)
    out, save = tmp_path / "e.json", tmp_path / "e.h5"
    result = evaluate(settings(run, out=out, save=save, realism=False))

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert json.loads(out.read_text(), parse_constant=refuse) == result
    assert str(tmp_path) not in out.read_text()
    with h5py.File(save) as file:
        assert json.loads(file.attrs["figures"]) == result
        curves = file["curve/cout_target"][:], file["curve/cout_original"][:]
        area = [np.trapezoid(curve, file["curve/fractions"][:], axis=1) for curve in curves]
        assert area[0] - area[1] == pytest.approx(file["cout"][:], abs=1e-6)
        assert file["cout"][:].mean() == pytest.approx(section(result, "faithful")["cout"])
        assert file["id"].asstr()[0] == "cell/001.png" and len(file["ssim"]) == 24
    with pytest.raises(UserError, match="exists already"):
        evaluate(settings(run, out=out))


def test_without_models_at_hand_what_the_file_holds_is_still_measured(made: Any, settings: Any) -> None:
    result = evaluate(settings(made(darker_spot), weights=None, data=None))
    for name in ("faithful", "realistic"):
        assert result["sections"][name]["figures"] == {} and "judge" in result["sections"][name]["not_measured"]
    assert section(result, "valid")["flip_rate_checker"] is not None
    assert "where" not in result["sections"]


def test_a_run_without_judge_counts_the_checkers_flips_and_says_so(made: Any, settings: Any) -> None:
    run = made(darker_spot, **{"prob/judge": None, "flipped": None, "group": None})
    result = evaluate(settings(run, weights=None, data=None))
    assert result["flipped_by"] == "checker" and result["groups"] is None
    assert result["sections"]["valid"]["figures"]["flip_rate_checker"]["all"]["by"] == "Wilson over images"


def mistakes(toy: Any, tmp_path: Path) -> list[tuple[dict[str, Any], str]]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "val.h5").touch()
    arrays = dict(np.load(toy.data))
    np.savez(tmp_path / "other.npz", **{**arrays, "images": arrays["images"] // 2})
    np.savez(tmp_path / "fewer.npz", **{k: v[:10] for k, v in arrays.items()})
    np.savez(tmp_path / "none.npz", **{k: v for k, v in arrays.items() if k != "masks"})
    (tmp_path / "swapped").mkdir()
    (tmp_path / "swapped" / "judge.safetensors").write_bytes((toy.weights / "checker.safetensors").read_bytes())
    return [
        ({"weights": str(tmp_path / "swapped")}, "is not the one that judged run.h5"),
        ({"weights": str(tmp_path / "empty"), "faithfulness": True}, "--faithfulness asks the judge"),
        ({"judge": toy.weights / "guide.safetensors"}, "clean-classifier model is needed"),
        ({"weights": None, "faithfulness": True}, "--faithfulness asks the judge"),
        ({"weights": None, "reference": str(toy.data)}, "asks the judge"),
        ({"masks": str(tmp_path / "empty")}, "has a mask for none of the 24 images of run.h5 "),
        ({"masks": str(tmp_path / "none.npz")}, "none.npz has no masks"),
        ({"masks": str(tmp_path / "other.npz")}, "'cell/001.png' of other.npz is not the one in run.h5"),
        ({"masks": str(tmp_path / "fewer.npz")}, "fewer.npz does not know 19 of the 24 images"),
        ({"masks": str(tmp_path / "gone.npz")}, "no data at"),
        (
            {"reference": str(tmp_path / "fewer.npz")},
            "there are 5 real images of class 'healthy' in fewer.npz, fewer than 16",
        ),
        ({"features": "resnet9000"}, "knows no model"),
        ({"feature_weights": tmp_path / "w.safetensors"}, "name it with --features"),
        ({"run": tmp_path / "gone.h5"}, "does not exist"),
        ({"run": toy.data}, "is not a readable HDF5 file"),
        ({"out": tmp_path / "e.txt"}, "should end in .json"),
        ({"save": tmp_path / "run.h5"}, "is the run itself"),
        (
            {"save": tmp_path / "val.h5", "threshold_from": tmp_path / "val.h5", "force": True},
            "file of --threshold-from",
        ),
        ({"save": tmp_path / "val.h5", "masks": str(tmp_path / "val.h5"), "force": True}, "file of --masks"),
        ({"save": tmp_path / "val.h5"}, "exists already: choose another --save"),
        ({"round_trip": True}, "is not the one that made run.h5"),
    ]


def test_a_users_mistake_is_one_sentence_and_leaves_no_file(made: Any, settings: Any, toy: Any, tmp_path: Path) -> None:
    run = made(darker_spot)
    for changes, words in mistakes(toy, tmp_path):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match=words) as error:
            evaluate(settings(**{"run": run, "out": tmp_path / "e.json", **changes}))
        assert str(error.value).endswith(".") and sorted(tmp_path.iterdir()) == before


def test_a_run_whose_images_have_no_lesion_says_so_and_is_an_error_where_masks_were_asked_for(
    made: Any, settings: Any, toy: Any, tmp_path: Path
) -> None:
    arrays = dict(np.load(toy.data))
    np.savez(
        tmp_path / "healthy.npz", **{**arrays, "masks": arrays["masks"] & (arrays["labels"] == "sick")[:, None, None]}
    )
    run = made(darker_spot, start=0)
    result = evaluate(settings(run, data=str(tmp_path / "healthy.npz"), realism=False, faithfulness=False))
    assert result["sections"]["where"]["not_measured"] == "no image has a lesion in its mask"
    with pytest.raises(UserError, match="starts from the positive class"):
        evaluate(settings(run, masks=str(tmp_path / "healthy.npz")))


def test_features_of_a_timm_model_carry_its_name(made: Any, settings: Any, tmp_path: Path) -> None:
    net = timm.create_model("test_vit", pretrained=False, num_classes=0)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    named = {"features": "test_vit", "feature_weights": tmp_path / "w.safetensors", "faithfulness": False}
    result = evaluate(settings(made(darker_spot), weights=None, **named))
    assert result["sections"]["realistic"]["figures"]["fid"]["label"] == "FID (features of test_vit)"
    assert result["sections"]["minimal"]["figures"]["cosine_similarity"]["label"].endswith("(features of test_vit)")


def of_the_cells(run: Run, edit: Callable[[np.ndarray], np.ndarray]) -> Run:
    """A run on two bundled cells, or on what a function makes of them."""
    cells = open_source("malaria-cells", limit=2)
    return dataclasses.replace(
        run,
        settings={**run.settings, "data": "malaria-cells", "classes": list(cells.classes)},
        models={"judge": "of the user"},
        ids=cells.ids,
        shape=cells.shape,
        read=lambda rows: (edit(cells.read(rows)), cells.read(rows)),
    )


def test_the_bundled_judge_is_not_at_hand_for_a_run_that_another_one_judged(made: Any, settings: Any) -> None:
    with open_run(made(darker_spot)) as run:
        mine = of_the_cells(run, lambda images: images)
        device = torch.device("cpu")
        nobody = settings(run.path, weights=None, data=None)
        assert bundled_data(mine) == "malaria-cells" and find_judges(nobody, mine, device) == ()
        assert len(find_judges(nobody, dataclasses.replace(mine, models={}), device)) == 1
        with pytest.raises(UserError, match="is not the one that judged run.h5"):
            find_judges(settings(run.path, weights="malaria-cells"), mine, device)


def test_a_folder_with_the_name_of_bundled_data_is_not_taken_for_it(made: Any, settings: Any) -> None:
    with open_run(made(darker_spot)) as run:
        named = dataclasses.replace(run, settings={**run.settings, "data": "malaria-cells"})
        alone = settings(run.path, weights=None, data=None)
        assert bundled_data(named) is None and bundled_data(of_the_cells(run, lambda images: 255 - images)) is None
        assert find_judges(alone, named, torch.device("cpu")) == () and read_masks(alone, named) is None
        assert real_images(alone, named) == "no real images at hand: name them with --reference"
        with pytest.raises(UserError, match="name their folder with --weights"):
            the_way_back(alone, named)


def test_weights_without_a_judge_leave_out_what_asks_it(made: Any, settings: Any, tmp_path: Path) -> None:
    result = evaluate(settings(made(darker_spot), weights=str(tmp_path)))
    assert "no judge at hand" in result["sections"]["faithful"]["not_measured"]
    assert section(result, "valid")["flip_rate_judge"] is not None


def test_curves_may_take_all_threads_and_the_verdicts_of_another_judge_take_one(
    made: Any, settings: Any, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def spy(model: Any, x: Any, exact: bool = True) -> Any:
        asked.append(exact)
        return probabilities(model, x, exact=exact)

    monkeypatch.setattr("cfdiff.evaluate.judge.probabilities", spy)
    run = made(darker_spot)
    evaluate(settings(run, realism=False))
    assert asked and not any(asked)
    asked.clear()
    evaluate(settings(run, judge=toy.weights / "checker.safetensors", realism=False))
    assert asked[:2] == [True, True] and not any(asked[2:]), "one batch before and after, then its curves"
