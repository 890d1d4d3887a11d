"""The loop itself: resume, rate, averages, limits. (What the networks learn is in test_train.py.)"""

from __future__ import annotations

import csv
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cfdiff.data.values import to_model
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import load_model, read_card
from cfdiff.models.classifier import Classifier
from cfdiff.models.unet import UNet
from cfdiff.train import diffusion
from cfdiff.train import loop as module
from cfdiff.train.average import Average
from cfdiff.train.classifier import ClassifierValidation, train_classifier
from cfdiff.train.data import open_training_data
from cfdiff.train.diffusion import train_diffusion
from cfdiff.train.folder import flat
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import ClassifierSettings, DiffusionSettings, TrainSettings

RESNET = {"channels": [8, 8, 8, 8], "stem_width": 8}
VIT = {"embed_dim": 16, "depth": 1, "num_heads": 1, "patch_size": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 images 8x8, dark and bright, of 16 patients."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    images = rng.integers(60, 120, (64, 8, 8), dtype=np.uint8) + (100 * labels[:, None, None]).astype(np.uint8)
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    patient = np.array([f"P{i // 4}" for i in range(64)])
    np.savez(path, images=images, labels=np.array(["negative", "positive"])[labels], patient=patient)
    return path


def settings(data: Path, out: Path, kind: str = "diffusion", **changes: Any) -> Any:
    """A training of a few steps."""
    common = {"data": str(data), "out": out, "device": "cpu", "batch_size": 8, "steps": 4, "eval_every": 2}
    common |= {"val_limit": 8, "T": 10, "group_key": "patient"}
    if kind == "diffusion":
        return DiffusionSettings(**{**common, "width": 8, "mult": (1, 2), "attention": (2,), "dropout": 0.1, **changes})
    return ClassifierSettings(**{**common, "arch": "resnet10t", "kwargs": RESNET, **changes})


def train(s: TrainSettings) -> TrainResult:
    return train_diffusion(s) if isinstance(s, DiffusionSettings) else train_classifier(s)  # type: ignore[arg-type]


def state(out: Path) -> dict[str, Any]:
    return torch.load(out / "state.pt", weights_only=True)


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = state(one), state(other)
    assert a["step"] == b["step"]
    for part in ("net", "ema"):
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(
    ("kind", "changes"), [("diffusion", {}), ("diffusion", {"condition": "class", "drop": 0.3}), ("classifier", {})]
)
def test_a_resumed_training_equals_an_undisturbed_one_to_the_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, changes: dict[str, Any]
) -> None:
    train(settings(data, tmp_path / "whole", kind, **changes))
    one_step = module.Trainer._one_step

    def killed_in_the_fourth(self: Any, loss: Any) -> float:
        if self.step == 3:
            raise Stop
        return one_step(self, loss)

    monkeypatch.setattr(module.Trainer, "_one_step", killed_in_the_fourth)
    with pytest.raises(Stop):
        train(settings(data, tmp_path / "parts", kind, **changes))
    monkeypatch.undo()
    assert state(tmp_path / "parts")["step"] == 2
    train(settings(data, tmp_path / "parts", kind, **changes))
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]


def test_a_kill_while_the_state_is_written_keeps_the_one_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    save, calls = torch.save, []

    def torn(value: Any, file: Any) -> None:
        calls.append(file)
        if len(calls) == 3:  # at the beginning, after two steps, after four
            file.write(b"half a file")
            raise Stop
        save(value, file)

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(Stop):
        train(settings(data, out))
    monkeypatch.undo()
    (out / "state.pt.1-abc.tmp").write_bytes(b"what a kill -9 leaves")
    assert state(out)["step"] == 2
    train(settings(data, out))
    train(settings(data, tmp_path / "whole"))
    assert_same_weights(out, tmp_path / "whole")
    assert not list(out.glob("*.tmp"))
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [2, 4]


def test_accumulation_changes_rounding_only(data: Path, tmp_path: Path) -> None:
    for name, kind, changes in (
        ("plain", "diffusion", {"dropout": 0.0}),
        ("told", "diffusion", {"dropout": 0.0, "condition": "class"}),
        ("classifier", "classifier", {"arch": "test_vit", "kwargs": VIT}),
    ):
        nets = []
        for accumulate in (1, 2):
            out = tmp_path / f"{name}{accumulate}"
            train(settings(data, out, kind, accumulate=accumulate, steps=2, **changes))
            nets.append(state(out)["net"])
        # Adam's first steps have the size of the rate whatever the gradient, so noise-sized gradients show up there.
        difference = torch.cat([(nets[0][k] - nets[1][k]).flatten().abs() for k in nets[0]])
        assert float(difference.quantile(0.99)) < 1e-5


def test_max_minutes_ends_in_time_with_a_rate_near_zero(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, rates = [0.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    one_step = module.Trainer._one_step

    def step(self: Any, loss: Any) -> float:
        rates.append(self.rate())
        clock[0] += 3.0
        return one_step(self, loss)

    monkeypatch.setattr(module.Trainer, "_one_step", step)
    s = settings(data, tmp_path / "out", "classifier", steps=1000, max_minutes=1, warmup=2, eval_every=1000)
    figures = train(s)
    assert figures.step == 20 and figures.minutes == 1
    assert rates[-1] < 0.02 * s.lr < 0.5 * s.lr < max(rates) <= s.lr


def test_the_average_follows_the_weights_and_is_what_is_saved(data: Path, tmp_path: Path) -> None:
    train(settings(data, tmp_path / "slow", steps=2, half=False))
    slow = state(tmp_path / "slow")
    assert any(not torch.equal(slow["net"][k], slow["ema"][k]) for k in slow["net"])
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "slow" / "model.safetensors")
    assert all(torch.equal(saved[k], slow["ema"][k]) for k in saved)
    train(settings(data, tmp_path / "fast", steps=2, ema=0.0))
    fast = state(tmp_path / "fast")
    assert all(torch.equal(fast["net"][k], fast["ema"][k]) for k in fast["net"])


def test_bf16_trains_on_a_cpu(data: Path, tmp_path: Path) -> None:
    figures = train(settings(data, tmp_path / "out", precision="bf16", steps=2))
    assert np.isfinite(figures.loss) and np.isfinite(figures.val_loss)


def test_what_is_written_holds_no_path_and_the_csv_is_flat(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    figures = train(settings(data, out, "classifier"))
    assert json.loads((out / "settings.json").read_text())["data"] == "toy.npz"
    for name in ("settings.json", "log.jsonl", "log.csv", "model.safetensors"):
        assert str(tmp_path).encode() not in (out / name).read_bytes()
        assert str(data.parent).encode() not in (out / name).read_bytes()
    with open(out / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert float(rows[1]["val_accuracy@0"]) == figures.val_accuracy_by_level["0"]
    assert flat({"a_by_level": {"1": 2}, "b": 3}) == {"a@1": 2, "b": 3}


def test_another_training_in_the_folder_is_not_touched(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(settings(data, out, "classifier", steps=2))
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(UserError, match=r"other settings \(lr\)"):
        train(settings(data, out, "classifier", steps=2, lr=0.5))
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    (out / "state.pt").write_bytes(b"\x80nonsense")
    with pytest.raises(UserError, match="damaged"):
        train(settings(data, out, "classifier", steps=2))
    (out / "state.pt").unlink()
    with pytest.raises(UserError, match="no state to continue"):
        train(settings(data, out, "classifier", steps=2))
    assert train(settings(data, out, "classifier", steps=1, force=True)).step == 1


def test_a_state_of_an_older_cfdiff_is_continued_and_changed_data_are_not(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(settings(data, out, "classifier", steps=2))
    old = state(out)
    known = json.loads(old["settings"]) | {"data": str(data)}  # a path, and no setting that came later
    del known["warmup"]
    torch.save(
        {**{k: v for k, v in old.items() if k != "fingerprint"}, "settings": json.dumps(known)}, out / "state.pt"
    )
    model = (out / "model.safetensors").read_bytes()
    assert train(settings(data, out, "classifier", steps=2)).step == 2
    assert (out / "model.safetensors").read_bytes() == model, "it was finished: nothing is done again"
    torch.save({**old, "fingerprint": "of other data"}, out / "state.pt")
    with pytest.raises(UserError, match="has changed"):
        train(settings(data, out, "classifier", steps=2))


def test_a_loss_that_is_not_finite_ends_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.functional.cross_entropy", lambda logits, *_, **__: logits.sum() * float("nan"))
    with pytest.raises(UserError, match="lower --lr"):
        train(settings(data, tmp_path / "out", "classifier"))


def test_devices_and_precisions_that_are_not_there_are_said(data: Path, tmp_path: Path) -> None:
    wrong = [("device", "gpu", "not there")]
    if not torch.cuda.is_available():
        wrong += [("device", "cuda", "this machine has cpu"), ("precision", "fp16", "needs a GPU")]
    for name, value, said in wrong:
        s = settings(data, tmp_path / "out", **{"device": "auto", name: value})
        with pytest.raises(UserError, match=said):
            train(s)
    with pytest.raises(UserError, match="must be a multiple of --accumulate"):
        train(settings(data, tmp_path / "out", accumulate=3))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["diffusion", "classifier"])
@pytest.mark.parametrize("eval_every", [2, 1000])
def test_the_budget_holds_validations_and_a_model_is_there_before_the_first(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, eval_every: int
) -> None:
    """A whole validation would take far longer than the tenth of the time that is kept for it."""
    clock, rates, out, began = [0.0], [], tmp_path / "out", []
    each = {"diffusion": 2.0, "classifier": 0.4}[kind]  # seconds of an image through the network; a step takes 3
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    one_step, forward = module.Trainer._one_step, torch.nn.Module.__call__

    def step(self: Any, loss: Any) -> Any:
        rates.append(self.rate())
        clock[0] += 3.0
        return one_step(self, loss)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, UNet | Classifier) and not self.training and (out / "settings.json").exists():
            began.extend([(out / "model.safetensors").exists()] if rates else [])
            clock[0] += each * len(args[0])
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(module.Trainer, "_one_step", step)
    monkeypatch.setattr(torch.nn.Module, "__call__", call)
    s = settings(data, out, kind, steps=1000, max_minutes=1, warmup=2, eval_every=eval_every)
    figures = train(s)
    assert clock[0] <= 66 and all(began) and began
    assert rates[-1] < 0.1 * s.lr < max(rates)
    card = read_card(out / "model.safetensors")
    assert card.training["validation"] == figures.figures() and figures.val_images < 8
    before = (out / "model.safetensors").read_bytes()
    train(s)
    assert (out / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("intercept", [False, True])
def test_the_figures_of_a_card_are_those_of_the_file(data: Path, tmp_path: Path, intercept: bool) -> None:
    """The weights are saved in float16, and validated as they are saved."""
    figures = train(settings(data, tmp_path / "out", "classifier", noisy=False, intercept=intercept))
    held = open_training_data(settings(data, tmp_path, "classifier", noisy=False)).validation
    images, labels = to_model(held.read(range(len(held)))), torch.from_numpy(held.labels.astype("int64"))
    net = load_model(tmp_path / "out" / "model.safetensors").net
    again = ClassifierValidation(None, images, labels, False)(net, 0, 1.0)
    assert {k: figures.figures()[k] for k in again} == pytest.approx(again, rel=1e-5 if intercept else 0, abs=0)


def test_a_model_stopped_during_its_first_validation_is_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise Stop

    monkeypatch.setattr("cfdiff.train.classifier.logits_by_level", stop)
    with pytest.raises(Stop):
        train(settings(data, tmp_path / "out", "classifier"))
    card = read_card(tmp_path / "out" / "model.safetensors")
    assert card.training["steps"] == 2 and set(card.training["validation"]) == {"step", "minutes", "loss"}


def test_a_loss_that_was_not_finite_for_one_step_writes_no_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entropy, calls = torch.nn.functional.cross_entropy, []

    def once(logits: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        return entropy(logits, *args, **kwargs) * (float("inf") if len(calls) == 2 else 1.0)

    monkeypatch.setattr("torch.nn.functional.cross_entropy", once)
    with pytest.raises(UserError, match="between the steps 0 and 4"):
        train(settings(data, tmp_path / "out", "classifier", eval_every=4))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_the_average_is_that_of_each_tensor_alone() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    average = Average(net, 0.9, torch.device("cpu"))
    wanted = {k: v.clone() for k, v in net.state_dict().items()}
    for step in range(1, 30):
        net(torch.randn(4, 3))
        with torch.no_grad():
            net[0].weight.add_(torch.randn(2, 3))
        average.update(net, step)
        for k, v in net.state_dict().items():
            d = min(0.9, (1 + step) / (10 + step))
            wanted[k] = d * wanted[k] + (1 - d) * v if v.is_floating_point() else v.clone()
    for k, v in average.net.state_dict().items():
        torch.testing.assert_close(v, wanted[k])


def test_the_same_command_started_twice_trains_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second ends with a sentence, writes no line into the log and takes no scratch file of the first."""
    out, said = tmp_path / "out", []
    s = settings(data, out, steps=4, eval_every=2)
    step = module.Trainer._one_step

    def with_a_second(self: Any, loss: Any) -> Any:
        if not said:
            said.append("")
            scratch = out / "model.safetensors.1-ab.tmp"
            scratch.touch()
            for again in (s, settings(data, out, steps=4, eval_every=2, force=True)):
                with pytest.raises(UserError, match="Another training is at work in") as caught:
                    train(again)
                said.append(str(caught.value))
            assert scratch.exists()
            scratch.unlink()
        return step(self, loss)

    monkeypatch.setattr(module.Trainer, "_one_step", with_a_second)
    assert train(s).step == 4 and len(said) == 3
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [2, 4]
    assert not list(out.glob("*.lock"))


def test_a_training_whose_process_was_killed_is_continued_at_once(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    dead = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": "1", "token": "ab"}
    (out / "training.lock").write_text(json.dumps(dead))
    assert train(settings(data, out, steps=2)).step == 2


def test_an_unconditional_training_is_that_of_a_cfdiff_that_knows_no_conditions(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No draw is spent on a class that is not told, and a share that would drop it is refused."""
    train(settings(data, tmp_path / "one"))
    monkeypatch.setattr("cfdiff.train.diffusion.drop_told", lambda *_: pytest.fail("it drew"))
    train(settings(data, tmp_path / "two"))
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    with pytest.raises(UserError, match="--drop is of --condition class or attributes or text, and this training has"):
        train(settings(data, tmp_path / "three", drop=0.6))


def test_telling_the_class_leaves_levels_noise_and_images_as_they_were(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[torch.Tensor]] = []
    loss = diffusion.l_simple

    def watched(schedule: Any, denoise: Any, x0: torch.Tensor, levels: torch.Tensor, noise: torch.Tensor) -> Any:
        seen[-1] += [x0, levels, noise]
        return loss(schedule, denoise, x0, levels, noise)

    monkeypatch.setattr(diffusion, "l_simple", watched)
    for condition in ("none", "class"):
        seen.append([])
        train(settings(data, tmp_path / condition, condition=condition))
    assert len(seen[0]) == 12 and all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_processes_that_would_each_train_by_itself_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As torchrun starts them: where accelerate takes no notice, or they do not find one another."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    s = DiffusionSettings(data="x", out=tmp_path, device="cpu")
    monkeypatch.setattr(module, "Accelerator", lambda **how: SimpleNamespace(num_processes=1))
    with pytest.raises(UserError, match="2 processes were started, and each would train by itself"):
        module.make_accelerator(s)

    def lost(**how: Any) -> None:
        raise ValueError("environment variable MASTER_ADDR expected, but not set")

    monkeypatch.setattr(module, "Accelerator", lost)
    with pytest.raises(
        UserError, match="2 processes .* do not find one another .*MASTER_ADDR.*: start them with torchrun"
    ):
        module.make_accelerator(s)
