"""Whole runs with a classifier that somebody else made: each command, each format, no guide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

import cfdiff
from cfdiff.cli.app import app
from cfdiff.edit.roles import load_cast
from cfdiff.models.checkpoint import load_model
from cfdiff.models.description import write_description
from cfdiff.store import open_result
from cfdiff.store.bags import open_bags

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporters have much to say of themselves
TOLD = {"classes": "0,1", "output": "logits", "normalisation": "symmetric", "channels": 1, "size": "images"}
TINY = {"channels": [8, 16, 16, 16], "stem_width": 8}


def save(toy: Any, role: str, kind: str, folder: Path, **told: Any) -> Any:
    """A toy classifier as somebody else would have it."""
    net = load_model(toy.weights / f"{role}.safetensors").net
    if kind == "Python":
        return cfdiff.as_classifier(net.net, **TOLD | told)
    path = folder / f"{role}-mine{ {'timm': '.safetensors', 'TorchScript': '.pt', 'ONNX': '.onnx'}[kind] }"
    if kind == "timm":
        save_file({key: value.contiguous() for key, value in net.net.state_dict().items()}, path)
        told = {"arch": "resnet10t", "kwargs": TINY, **told}
    elif kind == "TorchScript":
        torch.jit.trace(net.net, torch.zeros(2, 1, 16, 16)).save(str(path))
    else:
        axes = {"x": {0: "n"}}
        options: Any = {"input_names": ["x"], "dynamic_axes": axes, "dynamo": False, "verbose": False}
        torch.onnx.export(net.net, (torch.zeros(1, 1, 16, 16),), str(path), **options)
    write_description(path, TOLD | told)
    return path


@pytest.fixture
def alone(toy: Any, tmp_path: Path) -> dict[str, Any]:
    """A diffusion model and data, and nothing else: settings of a quick run without a guide."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "diffusion.safetensors").write_bytes((toy.weights / "diffusion.safetensors").read_bytes())
    quick = {"steps": 6, "depth": 0.4, "retries": 1, "batch_size": 8, "device": "cpu", "threads": 1, "progress": False}
    return {"data": str(toy.data), "weights": str(tmp_path / "weights"), "guides": "clean", **quick}


@pytest.mark.parametrize("kind", ["timm", "TorchScript", "ONNX", "Python"])
def test_a_run_with_a_foreign_copy_of_our_own_classifiers_is_our_own_run(
    toy: Any, alone: Any, tmp_path: Path, kind: str
) -> None:
    roles = {"checker": "checker", "judge": "judge"}
    own = {role: toy.weights / f"{name}.safetensors" for role, name in roles.items()}
    theirs = {role: save(toy, name, kind, tmp_path) for role, name in roles.items()}
    for name, models in {"own": own, "mine": theirs}.items():
        cfdiff.translate(**alone, **models, limit=8, out=tmp_path / f"{name}.h5")
    with open_result(tmp_path / "own.h5") as one, open_result(tmp_path / "mine.h5") as two:
        assert (one.counterfactual[:] != one.source[:]).any()
        off = np.abs(one.counterfactual[:].astype(int) - two.counterfactual[:].astype(int))
        assert off.max() <= 2 and np.allclose(one.prob("judge"), two.prob("judge"), atol=0.02)
        assert "classifiers" not in one.settings
        told = two.settings["classifiers"]
        assert told["checker"][0]["normalisation"] == "symmetric" and told["judge"][0]["classes"] == [[0], [1]]
        assert all(len(two.attrs["models"][role]) == 129 for role in roles), "the file's sha256 and the description's"


def test_classes_the_other_way_round_steer_the_other_way(toy: Any, alone: Any, tmp_path: Path) -> None:
    """The commonest fault: nothing fails, and every edit is wrong. Our own judge sees it."""
    checker = save(toy, "checker", "TorchScript", tmp_path)
    judge = toy.weights / "judge.safetensors"
    gains = []
    for classes in ("0,1", "1,0"):
        write_description(checker, TOLD | {"classes": classes})
        out = tmp_path / f"{classes}.h5"
        cfdiff.translate(**alone | {"retries": 0}, checker=checker, judge=judge, closed_loop=False, limit=16, out=out)
        with open_result(out) as r:
            p = r.prob("judge")[:, :, 1]
            gains.append(float((np.log(p[:, 1]) - np.log(p[:, 0])).mean()))
    assert gains[0] > gains[1] and gains[0] > 0


class Third(nn.Module):
    """The toy checker with a third class, of which it is as sure as of `logit`."""

    def __init__(self, net: nn.Module, logit: float) -> None:
        super().__init__()
        self.net, self.logit = net, logit

    def forward(self, x: Tensor) -> Tensor:
        both = self.net(x)
        return torch.cat([both, both.new_full((len(both), 1), self.logit) + both.amax(1, keepdim=True)], 1)


@pytest.mark.parametrize(("against", "sure"), [("all", False), ("pair", True)])
def test_an_image_of_a_third_class_has_not_flipped(
    toy: Any, alone: Any, tmp_path: Path, against: str, sure: bool
) -> None:
    """The target beats the source, and both lose against a third class: no flip, unless the pair alone is asked."""
    net = Third(load_model(toy.weights / "checker.safetensors").net.net, 2.0)
    judge = cfdiff.as_classifier(net, **TOLD, against=against)
    found = cfdiff.translate(
        **alone, checker=toy.weights / "checker.safetensors", judge=judge, ratio=1, limit=8, out=tmp_path / "run.h5"
    )
    with open_result(tmp_path / "run.h5") as r:
        p, flipped = r.prob("judge"), r["flipped"][:]
        beaten = p[:, 1, 1] > p[:, 1, 0]
        assert beaten.any(), "the toys flip"
        assert flipped.any() == sure and (np.abs(p.sum(2) - 1).max() < 1e-5) == sure
    assert (found.flipped_judge or 0) > 0 if sure else found.flipped_judge == 0


def test_a_third_class_is_pushed_back_too(toy: Any, alone: Any, tmp_path: Path) -> None:
    """The gradient is that of log p over all classes, and not that of the pair."""
    source = cfdiff.open_source(str(toy.data))
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    gradients = []
    for against in ("all", "pair"):
        checker = cfdiff.as_classifier(nn.Sequential(nn.Flatten(), Affine()), **TOLD, against=against)
        s = toy.settings(Path("run.h5"), weights=alone["weights"], checker=(checker,), guides="clean")
        cast = load_cast(s, s.data, source)
        mine = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(cast.checker_log_prob(mine)[:, 1].sum(), mine)[0])
    weight = Affine().weight
    p = torch.softmax(x.flatten(1) @ weight, 1)
    expected = weight[:, 1] - p @ weight.T
    assert torch.allclose(gradients[0].flatten(1), expected, atol=1e-5)
    assert not torch.allclose(gradients[1].flatten(1), expected, atol=1e-3)


class Affine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(256, 3, generator=torch.Generator().manual_seed(1)) / 16)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def test_several_checkers_of_several_kinds_in_colour_and_another_size(toy: Any, alone: Any, tmp_path: Path) -> None:
    class Colour(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(nn.functional.avg_pool2d(x.mean(1, keepdim=True), 2) * 2 - 1)

    net = Colour(load_model(toy.weights / "judge.safetensors").net.net)
    torch.jit.trace(net.eval(), torch.zeros(2, 3, 32, 32)).save(str(tmp_path / "colour.pt"))
    write_description(tmp_path / "colour.pt", TOLD | {"normalisation": "unit", "channels": 3, "size": 32})
    checkers = [tmp_path / "colour.pt", toy.weights / "checker.safetensors"]
    cfdiff.translate(**alone, checker=checkers, limit=4, out=tmp_path / "run.h5")
    with open_result(tmp_path / "run.h5") as r:
        assert (r.counterfactual[:] != r.source[:]).any()
        assert r.attrs["models"]["checker"].count("+") == 1 and len(r.settings["classifiers"]["checker"]) == 1


@pytest.mark.parametrize("exact", [False, True])
def test_bags_both_modes_and_the_exact_gradient_without_a_guide(
    toy: Any, alone: Any, tmp_path: Path, exact: bool
) -> None:
    checker, judge = (save(toy, role, "TorchScript", tmp_path) for role in ("checker", "judge"))
    mode = "instance" if exact else "joint"
    out = tmp_path / "bags.h5"
    options = {"mode": mode, "exact": exact, "bag_size": 8, "bags": 1, "mix": 0.5}
    cfdiff.bag(**alone, checker=checker, judge=judge, **options, out=out)
    with open_bags(out) as bags:
        assert bags.settings["classifiers"]["judge"][0]["name"] == "judge-mine.pt"


@pytest.mark.slow
def test_a_search_without_a_guide_finds_settings(toy: Any, alone: Any, tmp_path: Path) -> None:
    checker, judge = (save(toy, role, "ONNX", tmp_path) for role in ("checker", "judge"))
    options = {"trials": 3, "images": 6, "split": "all", "out": tmp_path / "tuned.toml"}
    found = cfdiff.tune(**alone, checker=checker, judge=judge, **options)
    assert found.models["checker"].count(":") == 1


def test_a_run_is_measured_and_reported_by_a_foreign_judge(toy: Any, alone: Any, tmp_path: Path) -> None:
    judge = save(toy, "judge", "ONNX", tmp_path)
    checker = save(toy, "checker", "TorchScript", tmp_path)
    cfdiff.translate(**alone, checker=checker, judge=judge, limit=8, out=tmp_path / "run.h5")
    quick = {"device": "cpu", "progress": False}
    found = cfdiff.evaluate(tmp_path / "run.h5", judge=judge, **quick)
    assert "judge (ONNX)" in json.dumps(found.as_json())
    assert "no timm model and has no features" in json.dumps(found.as_json()["sections"]["realistic"])
    with pytest.raises(cfdiff.UserError, match="the very model that steered"):
        cfdiff.evaluate(tmp_path / "run.h5", judge=checker, **quick)
    cfdiff.report(tmp_path / "run.h5", out=tmp_path / "run.html", progress=False)
    assert "judge-mine.onnx" in (tmp_path / "run.html").read_text()


def test_one_file_in_two_roles_is_one_model_however_it_is_described(toy: Any, alone: Any, tmp_path: Path) -> None:
    checker = save(toy, "checker", "TorchScript", tmp_path)
    twin = tmp_path / "twin.pt"
    twin.write_bytes(checker.read_bytes())
    write_description(twin, TOLD | {"against": "pair"})
    with pytest.raises(cfdiff.UserError, match="The verifier is the very model that steers"):
        cfdiff.translate(**alone, checker=checker, verifier=twin, out=tmp_path / "run.h5")


def test_another_description_is_another_run(toy: Any, alone: Any, tmp_path: Path) -> None:
    checker = save(toy, "checker", "TorchScript", tmp_path)
    cfdiff.translate(**alone, checker=checker, limit=2, out=tmp_path / "run.h5")
    write_description(checker, TOLD | {"normalisation": "unit"})
    with pytest.raises(cfdiff.UserError, match="--force"):
        cfdiff.translate(**alone, checker=checker, limit=2, out=tmp_path / "run.h5")


def test_names_in_a_description_are_held_against_the_datas(toy: Any, alone: Any, tmp_path: Path) -> None:
    checker = save(toy, "checker", "TorchScript", tmp_path, names="sick,healthy")
    with pytest.raises(cfdiff.UserError, match="--negative sick --positive healthy"):
        cfdiff.translate(**alone, checker=checker, out=tmp_path / "run.h5")


def test_the_command_line_takes_what_describe_wrote(toy: Any, alone: Any, tmp_path: Path) -> None:
    checker = save(toy, "checker", "TorchScript", tmp_path)
    checker.with_suffix(".toml").unlink()
    words = ["--data", alone["data"], "--weights", alone["weights"], "--guides", "clean", "--limit", "2"]
    run = [
        "translate",
        *words,
        "--checker",
        str(checker),
        "--steps",
        "4",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run.h5"),
    ]
    refused = CliRunner().invoke(app, run)
    assert "nobody says classes, output, normalisation, channels and size" in str(refused.exception)
    told = ["--classes", "0,1", "--output", "logits", "--normalisation", "symmetric", "--channels", "1"]
    assert CliRunner().invoke(app, ["models", "describe", str(checker), *told, "--size", "images"]).exit_code == 0
    result = CliRunner().invoke(app, run)
    assert result.exit_code == 0, result.output
