from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cfdiff.engine.guidance import grad_log_prob
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import load_model
from cfdiff.models.compiled import FixedSizes, as_they_are, compile_networks
from cfdiff.store import open_result
from cfdiff.translate.run import translate

CPU = torch.device("cpu")


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Graphs are taken and differentiated as always, but run as they are: a C++ compiler takes minutes. What is
    compiled is in the list."""
    seen: list[nn.Module] = []
    usual = nn.Module.compile

    def noted(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        seen.append(self)
        usual(self, *args, **kwargs)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(nn.Module, "compile", noted)
    return seen


def test_a_run_with_compiled_networks_agrees_to_rounding(toy: Any, tmp_path: Path, quickly: list[nn.Module]) -> None:
    runs = [tmp_path / "as-is.h5", tmp_path / "compiled.h5"]
    for run, compiled in zip(runs, (False, True), strict=True):
        translate(toy.settings(run, limit=2, steps=2, retries=0, compile=compiled))
    assert len(quickly) == 3  # diffusion, guide and checker: all that steer or accept
    with open_result(runs[0]) as plain, open_result(runs[1]) as made:
        assert made.settings["compile"] and not plain.settings["compile"]
        for name in ("counterfactual", "source"):
            np.testing.assert_allclose(made[name][:].astype(int), plain[name][:].astype(int), atol=1)
        np.testing.assert_array_equal(made["guidance/network_calls"][:], plain["guidance/network_calls"][:])


def test_without_a_compiler_it_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no C++ compiler\nlong trace")

    monkeypatch.setattr(torch, "compile", none)
    with pytest.raises(UserError, match=r"--compile cannot be used here: no C\+\+ compiler\. Install"):
        compile_networks([nn.SiLU()], CPU)


def test_what_jit_made_stays_as_it_is(quickly: list[nn.Module]) -> None:
    traced = torch.jit.trace(nn.SiLU(), torch.zeros(1))
    compile_networks([traced, nn.SiLU()], CPU)
    assert traced not in quickly and len(quickly) == 1


class Rows(nn.Module):
    """Samples that do not see one another: x (B, 3), t (B,), and beside them what has no rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor, t: torch.Tensor, more: Any = None, *, weight: float = 1.0) -> torch.Tensor:
        found = torch.tanh(self.layer(x)) * t[:, None] * weight
        return found if more is None else found + more[0][:, None] + more[1]


@pytest.mark.parametrize("batch", [None, 16, 13])
def test_a_batch_that_shrinks_meets_few_sizes_and_answers_the_same(quickly: list[nn.Module], batch: int | None) -> None:
    plain, net, most = Rows(), Rows(), batch or 16
    compile_networks([net], CPU, batch, fixed=True)
    for n in range(most, 0, -1):
        x, t, more = torch.randn(n, 3), torch.rand(n), [torch.rand(n), torch.tensor(3.0)]
        for given, named in (((x, t), {}), ((x, t, more), {"weight": 2.0})):
            found = net(*given, **named)
            assert found.shape == (n, 4)
            torch.testing.assert_close(found, plain(*given, **named))
    sizes = net._compiled_call_impl
    assert isinstance(sizes, FixedSizes)
    assert len(sizes.met) <= math.ceil(math.log2(most)) + 1 and max(sizes.met) == most


def test_the_rows_that_fill_a_batch_up_have_no_part_in_its_gradient(quickly: list[nn.Module], toy: Any) -> None:
    guide = load_model(toy.weights / "guide.safetensors")
    x, levels = torch.randn(5, *guide.shape[::-1][:1], *guide.shape[:2]), torch.full((5,), -1.0, dtype=torch.float64)
    target = torch.tensor([0, 1, 1, 0, 1])
    want = grad_log_prob(lambda x: guide.net(x, levels).log_softmax(1), x, target)
    compile_networks([guide.net], CPU, fixed=True)
    found = grad_log_prob(lambda x: guide.net(x, levels).log_softmax(1), x, target)
    assert guide.net._compiled_call_impl.met == {8}  # type: ignore[union-attr]
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-6)


def test_a_gradient_that_is_infinite_in_what_fills_up_stays_out_of_the_last_row() -> None:
    x = torch.tensor([[4.0], [1.0], [0.0]], requires_grad=True)
    (grad,) = torch.autograd.grad(FixedSizes(torch.sqrt, torch.sqrt)(x).sum(), x)
    assert grad[:, 0].tolist() == [0.25, 0.5, math.inf]  # and not inf + 0 * inf


def test_a_run_of_fixed_sizes_agrees_to_rounding(
    toy: Any, tmp_path: Path, quickly: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"limit": 3, "steps": 3, "retries": 1, "accept": 0.95, "batch_size": 3}
    translate(toy.settings(tmp_path / "as-is.h5", **changes))
    monkeypatch.setattr("cfdiff.edit.roles.compile_networks", partial(compile_networks, fixed=True))
    translate(toy.settings(tmp_path / "fixed.h5", **changes, compile=True))
    met = [net._compiled_call_impl.met for net in quickly]  # type: ignore[union-attr]
    assert len(met) == 3 and met[0] <= {1, 2, 3}
    with open_result(tmp_path / "as-is.h5") as plain, open_result(tmp_path / "fixed.h5") as made:
        np.testing.assert_allclose(
            made["counterfactual"][:].astype(int), plain["counterfactual"][:].astype(int), atol=1
        )
        np.testing.assert_array_equal(made["guidance/network_calls"][:], plain["guidance/network_calls"][:])


def test_a_trial_compiles_nothing(quickly: list[nn.Module]) -> None:
    net = Rows()
    compile_networks([net], CPU, fixed=True)
    with as_they_are():
        net(torch.zeros(3, 3), torch.zeros(3))
    assert net._compiled_call_impl.met == set()  # type: ignore[union-attr]
    net(torch.zeros(3, 3), torch.zeros(3))
    assert net._compiled_call_impl.met == {4}  # type: ignore[union-attr]
