from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from cfdiff.data.open import open_source
from cfdiff.data.values import to_model, unit
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import load_model
from cfdiff.store import RunParts
from cfdiff.workflows.cast import probabilities
from cfdiff.workflows.evaluate import evaluate
from cfdiff.workflows.evaluate_settings import EvaluateSettings

SPOT = (slice(4, 9), slice(6, 10))


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
    assert figure["all"]["by"] == "groups" and result["groups"] == 8


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
    assert figures["fid"] == pytest.approx(spread, rel=0.6)
    far = section(evaluate(settings(made(darker_spot, "far.h5"), faithfulness=False, repeats=8)), "realistic")
    assert far["fid"] > 3 * spread


def test_a_threshold_fixed_on_other_images_is_used_and_named(made: Any, settings: Any) -> None:
    validation = made(darker_spot, "val.h5", rows=np.arange(12))
    test = made(darker_spot, "test.h5", rows=np.arange(12, 24))
    result = evaluate(settings(test, threshold_from=validation, realism=False, faithfulness=False))
    where = result["sections"]["where"]
    assert 0 <= where["thresholds"]["validation"] < 20 / 255 and where["figures"]["dice_validation"]["all"]["n"] == 12
    assert where["figures"]["dice_validation"]["label"] == "Dice at validation threshold"
    with pytest.raises(UserError, match="shares 12 images"):
        evaluate(settings(test, threshold_from=test))


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
    assert result["sections"]["valid"]["figures"]["flip_rate_checker"]["all"]["by"] == "Wilson"


def mistakes(toy: Any, tmp_path: Path) -> list[tuple[dict[str, Any], str]]:
    (tmp_path / "empty").mkdir()
    arrays = dict(np.load(toy.data))
    np.savez(tmp_path / "other.npz", **{**arrays, "images": arrays["images"] // 2})
    np.savez(tmp_path / "fewer.npz", **{k: v[:10] for k, v in arrays.items()})
    np.savez(tmp_path / "none.npz", **{k: v for k, v in arrays.items() if k != "masks"})
    (tmp_path / "swapped").mkdir()
    (tmp_path / "swapped" / "judge.safetensors").write_bytes((toy.weights / "checker.safetensors").read_bytes())
    return [
        ({"weights": str(tmp_path / "swapped")}, "is not the one that judged run.h5"),
        ({"weights": str(tmp_path / "empty")}, "no judge.safetensors"),
        ({"judge": toy.weights / "guide.safetensors"}, "clean-classifier model is needed"),
        ({"weights": None, "faithfulness": True}, "--faithfulness asks the judge"),
        ({"weights": None, "reference": str(toy.data)}, "asks the judge"),
        ({"masks": str(tmp_path / "empty")}, "has no mask for 'cell/001.png'"),
        ({"masks": str(tmp_path / "none.npz")}, "none.npz has no masks"),
        ({"masks": str(tmp_path / "other.npz")}, "'cell/001.png' of other.npz is not the one in run.h5"),
        ({"masks": str(tmp_path / "fewer.npz")}, "fewer.npz does not know 19 of the 24 images"),
        ({"masks": str(tmp_path / "gone.npz")}, "no data at"),
        ({"reference": str(tmp_path / "fewer.npz")}, "has 5 real images"),
        ({"features": "resnet9000"}, "knows no model"),
        ({"feature_weights": tmp_path / "w.safetensors"}, "name it with --features"),
        ({"run": tmp_path / "gone.h5"}, "does not exist"),
        ({"run": toy.data}, "no HDF5 file"),
        ({"out": tmp_path / "e.txt"}, "should end in .json"),
        ({"save": tmp_path / "run.h5"}, "is the run itself"),
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
