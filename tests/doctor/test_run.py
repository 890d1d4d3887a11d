"""Each thing broken on purpose, and the right line, and only that, fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cfdiff.data.open import open_source
from cfdiff.doctor import path as trial
from cfdiff.doctor.classifiers import less_noise
from cfdiff.doctor.context import Context, open_context
from cfdiff.doctor.diffusion import condition
from cfdiff.doctor.lines import Line, Report
from cfdiff.doctor.run import CHECKS, doctor, examine
from cfdiff.doctor.settings import DoctorSettings
from cfdiff.edit.ladder import ladder
from cfdiff.engine import NoiseSchedule
from cfdiff.models.checkpoint import Card, Model, load_model, save_model

Settings = Callable[..., DoctorSettings]


@pytest.fixture(scope="module")
def settings(toy: Any) -> Settings:
    """Quick settings on the toys; what a test names replaces them."""

    def make(**changes: Any) -> DoctorSettings:
        quick = {"data": str(toy.data), "weights": str(toy.weights), "device": "cpu", "limit": 12}
        strength = {"guides": "both", "scale": 20, "ratio": 0.3, "target": 0.95, "depth": 0.4, "steps": 4, "retries": 0}
        return DoctorSettings(**{**quick, **strength, "batch_size": 16, **changes})

    return make


@pytest.fixture(scope="module")
def healthy(settings: Settings) -> tuple[Report, list[tuple[str, int, int]]]:
    """One examination of the toys as they are, and the progress that it told."""
    told: list[tuple[str, int, int]] = []
    return doctor(settings(), lambda *step: told.append(step)), told


def check(s: DoctorSettings, name: str, **changes: Any) -> list[Line]:
    """The lines of one check; `changes` replace parts of what was opened."""
    context = dataclasses.replace(open_context(s)[0], **changes)
    return examine(context, next(c for c in CHECKS if c.name == name))


def failed(report: Report) -> set[str]:
    """What failed, but for the toys' judge and checker parting on an edit, which hangs on how their training ended."""
    return {line.name for line in report.lines if line.status == "fail" and "The edits convince" not in line.advice}


def line(report: Report, name: str) -> Line:
    return report[name]


def saved_again(path: Path, out: Path, change: Callable[[nn.Module], None] = lambda net: None, **data: Any) -> Path:
    """A model file with its network changed, or with other entries in its card's `data`."""
    model = load_model(path)
    change(model.net)
    save_model(out, model.net, dataclasses.replace(model.card, data={**model.card.data, **data}))
    return out


def negate(net: nn.Module) -> None:
    """Swap the classes of a classifier."""
    fc: Any = net.net.fc  # type: ignore[union-attr]
    fc.weight.copy_(-fc.weight)
    fc.bias.copy_(-fc.bias)


def with_labels_turned(toy: Any, out: Path) -> Path:
    arrays = dict(np.load(toy.data))
    arrays["labels"] = np.where(arrays["labels"] == "sick", "healthy", "sick")
    np.savez(out, **arrays)
    return out


def test_a_healthy_cast_has_no_fail_line_and_every_check_speaks(healthy: Any) -> None:
    report, _ = healthy
    assert failed(report) == set()
    said = [line.name for line in report.lines]
    # Their cards list no groups; none is somebody else's; they are models of pixels.
    silent = {"unseen images", "normalisation", "autoencoder"}
    assert all(any(name.startswith(c.name) for name in said) for c in CHECKS if c.name not in silent)
    assert not any("not checked" in line.figure for line in report.lines)
    assert report.counts == {s: sum(li.status == s for li in report.lines) for s in ("ok", "warn", "fail")}


def test_the_same_question_gets_the_same_answer(healthy: Any, settings: Settings) -> None:
    first, second = (
        [found for found in report.lines if found.name != "memory"] for report in (healthy[0], doctor(settings()))
    )
    assert first == second


def test_classes_named_the_wrong_way_round_fail_with_the_swap_to_make(settings: Settings) -> None:
    report = doctor(settings(negative="sick", positive="healthy"))
    parts = ("guide", "checker", "judge")
    turned = {f"direction ({p})" for p in parts} | {f"classes ({p})" for p in (*parts, "diffusion")}
    assert failed(report) == turned | {"start"}
    assert "--negative healthy --positive sick" in line(report, "direction (guide)").advice
    assert line(report, "classes (guide)").advice == "Set --negative healthy --positive sick."


def test_labels_turned_in_the_file_fail_where_no_card_can_tell(toy: Any, settings: Settings, tmp_path: Path) -> None:
    report = doctor(settings(data=str(with_labels_turned(toy, tmp_path / "turned.npz"))))
    assert failed(report) == {f"direction ({p})" for p in ("guide", "checker", "judge")}
    assert "before any edit" in line(report, "trial edit").advice
    assert "inverted" in line(report, "direction (judge)").figure


def test_one_inverted_model_is_told_from_inverted_data(toy: Any, settings: Settings, tmp_path: Path) -> None:
    judge = saved_again(toy.weights / "judge.safetensors", tmp_path / "judge.safetensors", negate)
    report = doctor(settings(judge=judge))
    assert failed(report) == {"direction (judge)"}
    assert "but the judge does" in line(report, "direction (judge)").advice


def test_an_untrained_diffusion_model_fails_by_its_eps_error(settings: Settings, toys: Any, tmp_path: Path) -> None:
    report = doctor(settings(diffusion=toys.save_unet(tmp_path / "new.safetensors", toys.toy_unet())))
    assert "eps error" in failed(report)
    assert failed(report) <= {"eps error", "guidance", "trial edit"}  # which stand on the network's eps
    values = line(report, "eps error").values
    assert values["20"] == pytest.approx(1, abs=0.05) and values["pixelwise_20"] < values["20"]


class KnowsLowLevels(nn.Module):
    """The toy diffusion model up to level 50; above, it predicts nothing."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.config = net, net.config

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.net(x, t) * (t < 50).view(-1, 1, 1, 1)


def test_a_model_that_is_untrained_at_some_levels_is_a_warning(toy: Any, settings: Settings) -> None:
    model = load_model(toy.weights / "diffusion.safetensors")
    model = dataclasses.replace(model, net=KnowsLowLevels(model.net))
    found = check(settings(depth=0.6), "eps error", models={"diffusion": model})[0]
    assert found.status == "warn" and "60" in found.advice
    assert found.values["60"] > found.values["pixelwise_60"] and found.values["5"] < found.values["pixelwise_5"]


def test_a_guide_of_another_schedule_fails_its_line(settings: Settings, toys: Any, toy: Any, tmp_path: Path) -> None:
    net: Any = load_model(toy.weights / "guide.safetensors").net
    guide = toys.save_classifier(tmp_path / "linear.safetensors", net, NoiseSchedule.linear(100))
    report = doctor(settings(guide=guide))
    assert failed(report) - {"guide by level"} == {"schedule", "start"}
    assert line(report, "schedule").advice == "Train a guide with --schedule cosine --T 100."


def test_a_judge_that_is_the_checker_fails(toy: Any, settings: Settings) -> None:
    report = doctor(settings(judge=toy.weights / "checker.safetensors"))
    assert failed(report) == {"judge", "start"}
    assert "is the checker" in line(report, "judge").figure


def test_a_judge_that_is_the_guide_file_is_of_the_wrong_kind(toy: Any, settings: Settings) -> None:
    report = doctor(settings(judge=toy.weights / "guide.safetensors"))
    assert failed(report) == {"model (judge)", "judge", "start"}
    assert line(report, "judge").figure == "the judge is the guide: the same file"


def test_images_of_another_size_fail_for_each_model_and_the_rest_goes_on(
    settings: Settings, toys: Any, tmp_path: Path
) -> None:
    report = doctor(settings(data=str(toys.write_npz(tmp_path / "big.npz", 12, size=24))))
    assert failed(report) == {f"size ({p})" for p in ("diffusion", "guide", "checker", "judge")} | {"start"}
    assert line(report, "size (guide)").figure == "images 24x24, 1 channel, model 16x16, 1 channel"
    assert line(report, "schedule").status == line(report, "values").status == "ok"
    assert line(report, "inversion").figure == "not checked: no diffusion model that fits"


def test_a_judge_of_another_size_stops_nothing_but_its_own_checks(
    settings: Settings, toys: Any, tmp_path: Path
) -> None:
    judge = toys.save_classifier(tmp_path / "judge24.safetensors", toys.toy_classifier(3, size=24))
    report = doctor(settings(judge=judge))
    assert failed(report) == {"size (judge)", "start"}
    assert line(report, "trial edit").values.keys() == {"mean_abs_difference", "flipped_checker"}


class KnowsUpTo(nn.Module):
    """The toy guide up to a level; above it, everything is of the second class."""

    def __init__(self, net: Any, level: int, toys: Any) -> None:
        super().__init__()
        self.net, self.config = net, net.config
        self.least = float(toys.SCHEDULE.log_snr(torch.tensor([level]))[0])

    def forward(self, x: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
        return torch.where((log_snr >= self.least).view(-1, 1), self.net(x, log_snr), torch.tensor([0.0, 1.0]))


@pytest.fixture
def short_sighted(settings: Settings, toys: Any, tmp_path: Path) -> Callable[..., Line]:
    """The line "guide by level", on 120 images, of a guide that knows the levels up to 50."""
    data = toys.write_npz(tmp_path / "many.npz", 120)

    def line(**changes: Any) -> Line:
        s = settings(data=str(data), limit=120, **changes)
        models = dict(open_context(s)[0].models)
        models["guide"] = dataclasses.replace(models["guide"], net=KnowsUpTo(models["guide"].net, 50, toys))
        return check(s, "guide by level", models=models)[0]

    return line


def test_guidance_that_is_on_where_the_guide_is_at_chance_fails(short_sighted: Callable[..., Line]) -> None:
    found = short_sighted(depth=1.0, steps=10)
    assert found.status == "fail" and "guidance on up to level 100" in found.figure
    assert found.values["0"] > 0.9 and found.values["100"] == 0.5


def test_guidance_that_stops_where_the_card_says_so_is_fine(
    settings: Settings, toys: Any, toy: Any, tmp_path: Path
) -> None:
    net: Any = load_model(toy.weights / "guide.safetensors").net
    validation = {"val_accuracy_by_level": {"0": 0.99, "30": 0.9, "60": 0.5}}
    guide = toys.save_classifier(tmp_path / "guide.safetensors", net, training={"validation": validation})
    found = check(settings(depth=1.0, steps=10, guide=guide), "guide by level")[0]
    assert found.status == "ok" and "guidance on up to level 30" in found.figure


def test_retries_that_go_deeper_than_the_guide_knows_count_too(short_sighted: Callable[..., Line]) -> None:
    shallow, deep = (short_sighted(depth=0.4, retries=r) for r in (0, 4))
    assert "guidance on up to level 40" in shallow.figure and "guidance on up to level 85" in deep.figure
    assert shallow.status != "fail" and deep.status == "fail"


@pytest.mark.parametrize(("able", "retries"), [(40, 2), (59, 2), (60, 3), (84, 3)])
def test_advice_names_the_retries_where_only_they_go_deeper_than_the_guide_knows(
    settings: Settings, able: int, retries: int
) -> None:
    s = settings(depth=0.4, retries=4, limit=12)
    assert [round(100 * rung.depth) for rung in ladder(s)] == [40, 40, 40, 60, 85]
    advice = less_noise(open_context(s)[0], able)
    assert f"lower --retries to {retries}" in advice and "--depth" not in advice
    assert "lower --depth to 0.3 (and --retries)" in less_noise(open_context(s)[0], 30)


def test_images_far_darker_than_those_of_the_training_are_a_warning(
    toy: Any, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "judge.safetensors"
    saved_again(toy.weights / "judge.safetensors", path, brightness={"mean": 0.42, "std": 0.05})
    assert check(settings(judge=path), "values")[0].status == "ok"
    saved_again(toy.weights / "judge.safetensors", path, brightness={"mean": 0.8, "std": 0.05})
    found = check(settings(judge=path), "values")[0]
    assert found.status == "warn" and "The judge learned from images of mean 0.800" in found.advice


def test_an_untrained_guide_fails_on_clean_images_already(settings: Settings, toys: Any, tmp_path: Path) -> None:
    path = toys.save_classifier(tmp_path / "guide.safetensors", toys.toy_classifier(9, noisy=True))
    report = doctor(settings(guide=path, limit=48))
    assert failed(report) == {"direction (guide)", "guide by level"}
    assert "chance" in line(report, "direction (guide)").figure


def test_without_a_use_for_the_guide_its_levels_are_no_matter(settings: Settings) -> None:
    assert check(settings(depth=1.0, guides="clean"), "guide by level") == []


def broken(net: nn.Module) -> None:
    next(net.parameters()).fill_(float("nan"))


def test_weights_that_are_not_finite_are_named_and_nothing_runs_with_them(
    toy: Any, settings: Settings, tmp_path: Path
) -> None:
    path = saved_again(toy.weights / "diffusion.safetensors", tmp_path / "nan.safetensors", broken)
    report = doctor(settings(diffusion=path))
    assert {"model (diffusion)", "start"} == failed(report)
    assert "NaN or infinite" in line(report, "model (diffusion)").figure


def test_too_few_steps_show_in_the_inversion_error_and_more_steps_lower_it(settings: Settings) -> None:
    few = check(settings(depth=0.6, steps=2), "inversion")[0]
    many = check(settings(steps=20), "inversion")[0]
    assert few.status == "warn" and few.values["steps_2"] > 0.02 > many.values["steps_20"]
    assert many.status == "ok" and many.values["steps_40"] < many.values["steps_20"]


def test_the_anchor_leaves_every_image_as_it_was_for_every_solver(settings: Settings) -> None:
    for changes in ({"anchored": False}, {"solver": "dpm++"}, {"solver": "ddpm"}, {"inversion": "noise"}):
        assert check(settings(steps=3, **changes), "identity")[0].values == {"changed": 0.0}


def test_guidance_is_measured_before_and_after_the_clamp(settings: Settings) -> None:
    once, twice = (check(settings(scale=k, ratio=0.3, limit=8), "guidance")[0] for k in (0.001, 0.002))
    assert twice.values["free_40"] == pytest.approx(2 * once.values["free_40"], rel=1e-4)
    assert once.status == "warn" and "raise --scale" in once.advice
    strong = check(settings(scale=1e4, limit=8), "guidance")[0]
    assert strong.status == "warn" and "always binds" in strong.advice
    assert strong.values["40"] == pytest.approx(0.3) and strong.values["clamp_binds"] == 1
    free = check(settings(scale=1.0, ratio=None, limit=8), "guidance")[0]
    assert free.status == "ok" and free.values["40"] == free.values["free_40"]


def test_guidance_without_a_gradient_fails(toy: Any, settings: Settings, tmp_path: Path) -> None:
    def deaf(net: nn.Module) -> None:
        net.net.fc.weight.zero_()  # type: ignore[union-attr]

    parts = {p: saved_again(toy.weights / f"{p}.safetensors", tmp_path / p, deaf) for p in ("guide", "checker")}
    report = doctor(settings(**parts))
    assert "guidance" in failed(report)
    assert line(report, "trial edit").values["mean_abs_difference"] == 0


def test_scale_0_is_off_and_no_failure(settings: Settings) -> None:
    report = doctor(settings(scale=0, limit=8))
    assert failed(report) == set()
    assert line(report, "guidance").figure.startswith("off")
    assert line(report, "trial edit").status == "ok"


def test_a_change_below_rounding_and_edits_that_do_not_flip_are_warnings(settings: Settings) -> None:
    small = check(settings(scale=1e-3, limit=8), "trial edit")[0]
    assert small.status in ("warn", "fail") and small.values["mean_abs_difference"] < 1 / 255 / 4
    weak = check(settings(ratio=0.02, limit=8), "trial edit")[0]
    assert weak.status == "warn" and weak.values["flipped_checker"] < 0.5 and "raise --ratio" in weak.advice


class Remembers(nn.Module):
    """A judge whom no edit convinces: it says what the nearest of the images before the edit was."""

    def __init__(self, net: Any, context: Context) -> None:
        super().__init__()
        self.config, self.x0, self.labels = net.config, context.x0, torch.from_numpy(context.labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nearest = torch.cdist(x.flatten(1), self.x0.flatten(1)).argmin(1)
        return 9 * nn.functional.one_hot(self.labels[nearest], 2).float()


@pytest.mark.parametrize(
    ("checker", "other", "status"),
    [
        (1.0, 1.0, "ok"),
        (1.0, 0.875, "ok"),
        (1.0, 0.8, "fail"),
        (0.6, 0.8, "fail"),
        (0.9, 0.5, "fail"),
        (0.9, 0.2, "fail"),
    ],
)
@pytest.mark.parametrize("role", ["judge", "verifier"])
def test_the_trial_fails_where_checker_and_who_accepts_part(
    checker: float, other: float, status: str, role: Any
) -> None:
    before: dict[Any, float] = {"checker": 0.0, role: 0.0}
    found, advice = trial._verdict(0.03, 1 / 255, before, {"checker": checker, role: other}, 40)
    assert found == status
    assert (f"convince the {'checker' if checker > other else role} and not" in advice) == (status == "fail")


def test_the_verifier_accepts_where_there_is_one() -> None:
    none: dict[Any, float] = {"checker": 0.0, "judge": 0.0, "verifier": 0.0}
    agree: dict[Any, float] = {"checker": 1.0, "judge": 0.6, "verifier": 1.0}
    assert trial._verdict(0.03, 1 / 255, none, agree, 16)[0] == "ok"
    assert trial._verdict(0.03, 1 / 255, none, {**agree, "verifier": 0.6, "judge": 1.0}, 16)[0] == "fail"


def test_a_single_image_is_no_parting_however_few_there_are() -> None:
    before: dict[Any, float] = {"checker": 0.0, "judge": 0.0}
    for n, apart, status in ((4, 1, "ok"), (4, 2, "fail"), (16, 2, "ok"), (16, 3, "fail")):
        assert trial._verdict(0.03, 1 / 255, before, {"checker": 1.0, "judge": 1 - apart / n}, n)[0] == status


def test_an_edit_that_only_the_checker_sees_fails_the_doctor(settings: Settings) -> None:
    s = settings(limit=8, ratio=0.5)
    context = open_context(s)[0]
    judge, checker = context.models["judge"], context.models["checker"]
    for net, status in ((Remembers(judge.net, context), "fail"), (checker.net, "ok")):
        models = {**context.models, "judge": dataclasses.replace(judge, net=net)}
        found = check(s, "trial edit", models=models)[0]
        assert found.values["flipped_checker"] >= 0.5 and found.status == status
        assert ("convince the checker and not the judge" in found.advice) == (status == "fail")


def test_steps_that_do_not_fit_the_schedule_fail_and_hide_nothing(settings: Settings) -> None:
    report = doctor(settings(steps=60, limit=8))
    assert "use 1 to 40 steps" in line(report, "noise path").advice + line(report, "noise path").figure
    assert "noise path" in failed(report) and line(report, "eps error").status != "fail"


def test_many_broken_things_are_all_told_at_once(toy: Any, settings: Settings, toys: Any, tmp_path: Path) -> None:
    guide = toys.save_classifier(tmp_path / "g.safetensors", toys.toy_classifier(1, True), NoiseSchedule.linear(100))
    cut = tmp_path / "judge.safetensors"
    cut.write_bytes((toy.weights / "judge.safetensors").read_bytes()[:2000])
    unet = toys.save_unet(tmp_path / "new.safetensors", toys.toy_unet())
    data = with_labels_turned(toy, tmp_path / "turned.npz")
    report = doctor(settings(data=str(data), guide=guide, judge=cut, diffusion=unet, device="nonsense"))
    told = {"device", "model (judge)", "schedule", "eps error", "direction (checker)", "start"}
    assert told <= failed(report)


def test_data_that_cannot_be_opened_or_read_leave_the_models_to_be_checked(
    toy: Any, settings: Settings, toys: Any, tmp_path: Path
) -> None:
    outside = toys.write_npz(tmp_path / "float.npz", 12, dtype="float32", images=np.full((12, 16, 16, 1), 1.5, "f4"))
    for data in (tmp_path / "nothing.npz", outside):
        report = doctor(settings(data=str(data), judge=toy.weights / "checker.safetensors"))
        assert {"data", "judge"} <= failed(report)
        assert line(report, "schedule").status == "ok"
        assert line(report, "eps error").figure == "not checked: no images"
    assert "outside [0, 1]" in line(report, "data").figure


def test_masks_that_the_data_has_not_stop_the_start_and_nothing_is_edited_everywhere(
    settings: Settings, toys: Any, tmp_path: Path
) -> None:
    plain, masked = (str(toys.write_npz(tmp_path / f"{k}.npz", 12, **{"masks": None} if k else {})) for k in (1, 0))
    s = settings(data=plain, mask="data", limit=4)
    (begin,), (edit,) = (check(s, name) for name in ("start", "trial edit"))
    assert begin.status == "fail" and "has no masks" in begin.figure and "--mask auto" in begin.advice
    assert edit.status == "warn" and edit.figure == "not checked: no masks, which --mask data needs"
    s = settings(data=masked, mask="data", limit=4)
    assert check(s, "start")[0].status == "ok" and "mean |difference|" in check(s, "trial edit")[0].figure


def test_one_class_only_leaves_the_direction_open(toy: Any, settings: Settings, tmp_path: Path) -> None:
    arrays = {key: value[::2] for key, value in np.load(toy.data).items()}
    np.savez(tmp_path / "healthy.npz", **arrays)
    report = doctor(settings(data=str(tmp_path / "healthy.npz")))
    assert line(report, "classes").status == "warn"
    assert line(report, "direction").figure == "not checked: no images of both classes"


def test_images_are_balanced_and_of_the_validation_split(toy: Any, settings: Settings, tmp_path: Path) -> None:
    arrays = dict(np.load(toy.data))
    arrays["split"] = np.array(["train"] * 24 + ["val"] * 16 + ["test"] * 8)
    np.savez(tmp_path / "split.npz", **arrays)
    split = open_source(tmp_path / "split.npz")
    for given, name in ((None, "val"), ("test", "test")):
        context, _ = open_context(settings(data=str(tmp_path / "split.npz"), limit=6, split=given))
        assert context.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert set(context.ids) <= set(split.ids[split.splits == name])


class Overflow(nn.Module):
    """A network whose products pass the largest number of float16."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)
        self.layer.weight.data.fill_(1e5)
        self.config = type("Config", (), {"size": (16, 16), "channels": 1})

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_half_precision_is_compared_with_float32(settings: Settings) -> None:
    assert check(settings(), "precision")[0].figure == "float32"
    half = check(settings(precision="bf16", limit=4), "precision")[0]
    assert 0 < half.values["relative_difference"] < 0.1
    net = Model(Overflow().requires_grad_(False), Card("diffusion", {}, {"name": "cosine", "T": 100}, {}, {}), "0", "x")
    assert check(settings(precision="fp16", limit=4), "precision", models={"diffusion": net})[0].status == "fail"


def test_the_context_of_a_run_without_guide_still_checks_the_rest(toy: Any, settings: Settings, tmp_path: Path) -> None:
    for part in ("diffusion", "checker"):
        (tmp_path / f"{part}.safetensors").write_bytes((toy.weights / f"{part}.safetensors").read_bytes())
    report = doctor(settings(weights=str(tmp_path), guides="clean", limit=8))
    assert failed(report) == set() and line(report, "judge").status == "warn"
    needy = doctor(settings(weights=str(tmp_path), limit=8))
    assert failed(needy) == {"start"} and "needs a guide" in line(needy, "start").figure


def test_progress_names_each_check(healthy: Any) -> None:
    assert healthy[1] == [(f"checking {c.name}", i, len(CHECKS)) for i, c in enumerate(CHECKS)]


def test_the_bundled_data_needs_no_option() -> None:
    context, lines = open_context(DoctorSettings(limit=4, device="cpu"))
    assert lines == [] and isinstance(context, Context)
    assert set(context.fitting) == {"diffusion", "guide", "checker", "judge"}
    for c in CHECKS[:12]:
        assert all(li.status != "fail" for li in examine(context, c)), c.name


def test_a_diffusion_model_that_may_be_told_the_class_is_examined_as_any(toy_told: Any, settings: Settings) -> None:
    """It shifts its output by what it is told and has learned nothing of it, which is no fault unless it guides."""
    report = doctor(settings(weights=str(toy_told.weights), base="source"))
    assert failed(report) == set()
    values = line(report, "condition").values
    assert set(values) == {"own", "nothing", "other"} and len(set(values.values())) == 3
    told = doctor(settings(weights=str(toy_told.weights), guides="clean+cfg", base="source"))
    assert failed(told) <= {"condition"} and line(told, "guidance").status != "fail"


def test_one_that_must_be_told_a_class_is_asked_with_the_images_own(
    toy_told: Any, settings: Settings, tmp_path: Path
) -> None:
    """As other people's class-conditional models are, which learned none that means nothing."""
    plain = load_model(toy_told.weights / "diffusion.safetensors")
    plain.net.told.weight.mul_(0.05)  # type: ignore[union-attr,operator] # what it is told means nothing: not much of it
    path = tmp_path / "diffusion.safetensors"
    save_model(path, plain.net, dataclasses.replace(plain.card, told_nothing=False), half=False)
    report = doctor(settings(diffusion=path, base="source"))
    assert failed(report) == set() and set(line(report, "condition").values) == {"own", "other"}
    plainly = check(settings(weights=str(toy_told.weights)), "eps error")[0]
    assert line(report, "eps error").figure != plainly.figure
    assert "--base source" in check(settings(diffusion=path), "start")[0].advice


def deaf(net: nn.Module) -> None:
    """Forget the classes."""
    net.told.weight.zero_()  # type: ignore[union-attr,operator]


def test_a_model_that_does_not_listen_to_the_class_fails_where_it_should_guide(
    toy_told: Any, settings: Settings, tmp_path: Path
) -> None:
    diffusion = saved_again(toy_told.weights / "diffusion.safetensors", tmp_path / "diffusion.safetensors", deaf)
    guides = settings(diffusion=diffusion, guides="cfg")
    assert check(guides, "condition")[0].status == "fail"
    assert check(settings(diffusion=diffusion), "condition")[0].status == "warn"


def test_one_that_listens_and_is_right_is_ok(settings: Settings, told_cast: Any, exact_images: Any) -> None:
    images, labels = np.concatenate([exact_images(6, k) for k in (0, 1)]), np.repeat([0, 1], 6)
    source = dataclasses.replace(open_source(settings().data).select(np.arange(12)), labels=labels)
    context = Context(settings(), torch.device("cpu"), source, images, {"diffusion": told_cast.diffusion})
    context.__dict__["cast"] = told_cast
    found = condition(context)[0]
    assert found.status == "ok" and found.values["own"] < found.values["nothing"] < found.values["other"]


def test_guiding_by_the_class_with_an_unconditional_model_fails_with_what_to_train(settings: Settings) -> None:
    report = doctor(settings(guides="cfg"))
    assert {"guidance", "trial edit", "start"} == failed(report)
    assert "condition class" in line(report, "start").advice and line(report, "condition").status == "ok"
