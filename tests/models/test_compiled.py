from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cfdiff.errors import UserError
from cfdiff.models.compiled import compile_networks
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
