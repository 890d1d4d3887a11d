"""One of each kind from outside the package: one file (this one) and one line each, run through the command.

What CONTRIBUTING.md says about adding a solver, guide, space and so on holds here, or these tests fail.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from cfdiff import registry
from cfdiff.bag.policies import Policy
from cfdiff.cli.app import app
from cfdiff.data.raw import Format, Raw
from cfdiff.data.readers.held import FileKind, Held, numbered
from cfdiff.edit.anchored import Anchored
from cfdiff.edit.guides import GuideKind
from cfdiff.engine import NoisyGuide, ddim_step
from cfdiff.metrics.pair import Metric
from cfdiff.models.checkpoint import Model, load_model, save_model
from cfdiff.models.foreign import describe, digest, foreign_model
from cfdiff.models.outputs import Output
from cfdiff.registry import READERS
from cfdiff.store import open_result
from cfdiff.store.bags import open_bags
from cfdiff.workers.here import Here

CALLED: list[str] = []


@pytest.fixture(autouse=True)
def _clean_tables() -> Iterator[None]:
    """The tables as they were, whatever a test adds."""
    tables = [table for table in vars(registry).values() if isinstance(table, registry.Registry)]
    before = [dict(table) for table in tables]
    CALLED.clear()
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def run(toy: Any, *words: str) -> str:
    """What a command on toy data and models prints."""
    quick = ["--device", "cpu", "--steps", "4", "--depth", "0.3", "--retries", "0", "--threads", "1"]
    models = ["--data", str(toy.data), "--weights", str(toy.weights)]
    result = CliRunner().invoke(app, [*words, *models, *(quick if words[0] in ("translate", "bag") else [])])
    assert result.exit_code == 0, result.output
    return result.output


class Midpoint:
    """A solver: the eps at half of the way is used for all of it, so it asks twice a step."""

    stochastic = False

    def __init__(self, eta: float) -> None:
        self.eta = eta

    def reset(self) -> None:
        CALLED.append("solver")

    def step(self, schedule: Any, x: Tensor, eps: Tensor, a: int, b: int, noise: Any = None, ask: Any = None) -> Tensor:
        half = (a + b) // 2
        return ddim_step(schedule, x, ask(ddim_step(schedule, x, eps, a, half), half), a, b)


def test_a_solver(toy: Any, tmp_path: Path) -> None:
    registry.SOLVERS["midpoint"] = Midpoint
    out = tmp_path / "run.h5"
    run(toy, "translate", "--solver", "midpoint", "--limit", "2", "--out", str(out))
    with open_result(out) as r:
        assert "solver" in CALLED and r.settings["solver"] == "midpoint"
        assert (r["guidance/network_calls"][:] > 4 + 1 + 3).all(), "what a solver asks for besides is counted"


def test_a_guide(toy: Any, tmp_path: Path) -> None:
    def make(cast: Any, s: Any) -> NoisyGuide:
        def log_prob(x: Tensor, level: int) -> Tensor:
            CALLED.append("guide")
            return torch.stack([-x.flatten(1).mean(1), x.flatten(1).mean(1)], 1)

        return NoisyGuide(log_prob)

    registry.GUIDES["bright"] = GuideKind("checker", make)
    run(toy, "translate", "--guides", "clean+bright", "--limit", "2", "--out", str(tmp_path / "run.h5"))
    assert "guide" in CALLED


def test_a_way_of_editing(toy: Any, tmp_path: Path) -> None:
    class Twice(Anchored):
        """The anchored edit, and its change once more."""

        def attempt(self, rows: np.ndarray, rung: Any, mask: Tensor | None = None) -> Any:
            CALLED.append("edit")
            found = super().attempt(rows, rung, mask)
            found.z.mul_(2).sub_(self.batch.z[torch.from_numpy(rows)])
            return found

    registry.EDITS["twice"] = Twice
    for name in ("anchored", "twice"):
        run(toy, "translate", "--edit", name, "--open-loop", "--limit", "2", "--out", str(tmp_path / f"{name}.h5"))
    with open_result(tmp_path / "anchored.h5") as one, open_result(tmp_path / "twice.h5") as two:
        assert "edit" in CALLED
        assert np.abs(two.difference[:].astype(float)).mean() > 1.3 * np.abs(one.difference[:].astype(float)).mean()


class Halves:
    """A space: the same images, half as large in value, so that nothing about pixels can be taken for granted."""

    discrete = False

    def __init__(self, factor: float = 0.5) -> None:
        self.factor = factor
        CALLED.append("space")

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, height, width

    def encode(self, x: Tensor) -> Tensor:
        return x * self.factor

    def decode(self, z: Tensor) -> Tensor:
        return z / self.factor

    def saved(self, x: Tensor, z: Tensor, edited: Tensor, drawn: Tensor | None = None) -> Tensor:
        return x + (self.decode(edited) - self.decode(z))

    def mask(self, mask: Tensor) -> Tensor:
        return mask


def test_a_space(toy: Any, tmp_path: Path) -> None:
    registry.SPACES["halves"] = Halves
    model = load_model(toy.weights / "diffusion.safetensors")
    model.card.__dict__["space"] = {"name": "halves", "factor": 0.5}
    save_model(tmp_path / "halves.safetensors", model.net, model.card)
    out = tmp_path / "run.h5"
    words = ["--diffusion", str(tmp_path / "halves.safetensors"), "--limit", "2", "--guides", "clean"]
    run(toy, "translate", *words, "--out", str(out))
    run(toy, "translate", *words, "--scale", "0", "--out", str(tmp_path / "identity.h5"))
    with open_result(out) as r, open_result(tmp_path / "identity.h5") as same:
        assert "space" in CALLED
        assert (r.counterfactual[:] != r.source[:]).any() and (same.counterfactual[:] == same.source[:]).all()


def test_a_format_of_diffusion_models(toy: Any, tmp_path: Path) -> None:
    class Foreign:
        """A file that only says where one of ours lies."""

        @staticmethod
        def recognises(path: Path) -> bool:
            return path.suffix == ".where"

        @staticmethod
        def load(path: Path, device: Any) -> Model:
            CALLED.append("denoiser")
            return load_model(path.read_text(), "diffusion", device)

    registry.DENOISERS["foreign"] = Foreign
    (tmp_path / "model.where").write_text(str(toy.weights / "diffusion.safetensors"))
    words = ("--diffusion", str(tmp_path / "model.where"), "--limit", "2", "--out", str(tmp_path / "run.h5"))
    run(toy, "translate", *words)
    assert CALLED == ["denoiser"]


def test_a_format_of_classifiers_and_a_kind_of_output(toy: Any, tmp_path: Path) -> None:
    class Threshold:
        """A text file with the brightness above which an image is positive."""

        @staticmethod
        def recognises(file: Any) -> bool:
            return isinstance(file, Path) and file.suffix == ".bright"

        @staticmethod
        def known(file: Any) -> dict[str, Any]:
            return {"normalisation": "unit", "size": "images", "channels": 1, "classes": "0,1"}

        @staticmethod
        def load(file: Any, device: Any, steers: bool) -> Model:
            CALLED.append(f"steers {steers}")
            level = float(file.read_text())
            core = lambda x: x.flatten(1).mean(1, keepdim=True) - level  # noqa: E731
            return foreign_model(file, "Threshold", core, describe(Threshold, file), digest([file]), device)

    def twice(x: Tensor, groups: Any, others: bool) -> Tensor:
        CALLED.append("output")
        return torch.cat([-x, x], 1)

    registry.CLASSIFIERS["threshold"] = Threshold
    registry.OUTPUTS["margin"] = Output("a margin", twice, single=True)
    (tmp_path / "mine.bright").write_text("0.5")
    (tmp_path / "mine.toml").write_text('output = "margin"')
    words = ["--checker", str(tmp_path / "mine.bright"), "--guides", "clean", "--limit", "2"]
    run(toy, "translate", *words, "--out", str(tmp_path / "run.h5"))
    assert {"steers True", "output"} <= set(CALLED)
    assert "margin" in CliRunner().invoke(app, ["models", "describe", str(tmp_path / "mine.bright")]).output


def test_a_selection_policy(toy: Any, tmp_path: Path) -> None:
    def last(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
        CALLED.append("policy")
        return 1000.0 * np.arange(len(labels))

    registry.POLICIES["last"] = Policy(last)
    out = tmp_path / "bags.h5"
    run(toy, "bag", "--select", "last", "--bag-size", "12", "--bags", "1", "--mix", "0.6", "--out", str(out))
    with open_bags(out) as bags:
        chosen = bags.read("instance/id")[bags.read("row/instance")[bags.read("row/edited")]].tolist()
        negatives = sorted(
            i for i, k in zip(bags.read("instance/id"), bags.read("instance/label"), strict=True) if k == 0
        )
    assert "policy" in CALLED and sorted(chosen) == negatives[-len(chosen) :]


def test_a_reader(toy: Any, tmp_path: Path) -> None:
    def read(path: Path, name: str, fit: Any, unlabelled: bool) -> Raw:
        CALLED.append("reader")
        return READERS[".npz"].read(path.rename(path.with_suffix(".npz")), name, fit, unlabelled)

    registry.READERS[".toy"] = Format(lambda path: path.suffix == ".toy", read)
    data = Path(shutil.copy(toy.data, tmp_path / "cells.toy"))
    words = ["--data", str(data), "--weights", str(toy.weights), "--limit", "2", "--steps", "4", "--retries", "0"]
    result = CliRunner().invoke(app, ["translate", *words, "--depth", "0.3", "--out", str(tmp_path / "run.h5")])
    assert result.exit_code == 0, result.output
    assert CALLED == ["reader"], "data is opened once a run"


def test_a_way_to_share_work(toy: Any, tmp_path: Path) -> None:
    class Counted(Here):
        def __init__(self, s: Any, here: Any, elsewhere: Any) -> None:
            super().__init__(s, here, elsewhere)
            CALLED.append(f"{s.workers} workers")

    registry.CREWS["ray"] = Counted
    run(toy, "translate", "--limit", "2", "--workers", "3", "--out", str(tmp_path / "run.h5"))
    assert CALLED == ["3 workers"]


def test_what_is_put_into_the_tables_can_be_told_to_another_process() -> None:
    registry.SOLVERS["midpoint"] = Midpoint
    registry.READERS[".npz"] = READERS[".h5"]
    told = registry.additions()
    assert set(told) == {"SOLVERS", "READERS"} and told["SOLVERS"] == {"midpoint": Midpoint}
    del registry.SOLVERS["midpoint"]
    registry.add(told)
    assert registry.SOLVERS["midpoint"] is Midpoint


def test_a_kind_of_file(toy: Any, tmp_path: Path) -> None:
    def hold(path: Path, shown: str, reading: Any) -> Held:
        CALLED.append("kind")
        images = np.load(path)
        return Held(images.shape[1:], images.dtype, numbered(len(images)), lambda places: images[list(places)])

    registry.FILES["stack"] = FileKind(lambda path, reading: path.suffix == ".stack", hold, ())
    with np.load(toy.data) as file:
        for name in ("healthy", "sick"):
            (tmp_path / "cells" / name).mkdir(parents=True)
            with (tmp_path / "cells" / name / "a.stack").open("wb") as out:
                np.save(out, file["images"].reshape(-1, 16, 16, 1)[file["labels"] == name])
    words = ["--data", str(tmp_path / "cells"), "--weights", str(toy.weights), "--limit", "2", "--steps", "4"]
    words += ["--retries", "0", "--depth", "0.3", "--out", str(tmp_path / "run.h5")]
    result = CliRunner().invoke(app, ["translate", *words])
    assert result.exit_code == 0, result.output
    with open_result(tmp_path / "run.h5") as made:
        assert all(re.fullmatch(r"healthy/a\.stack#\d{4}", name) for name in made["id"][:])
    assert CALLED == ["kind", "kind"], "one look at each file"


def test_a_metric(toy: Any, tmp_path: Path) -> None:
    registry.METRICS["largest"] = Metric("largest change", lambda a, b, s: np.abs(b - a).max(axis=(1, 2, 3)))
    out = tmp_path / "run.h5"
    run(toy, "translate", "--limit", "2", "--out", str(out))
    told = json.loads(run(toy, "evaluate", str(out), "--json", "--no-realism", "--no-faithfulness", "--device", "cpu"))
    assert 0 < told["sections"]["minimal"]["figures"]["largest"]["all"]["value"] <= 1


def test_a_name_that_no_table_has_is_refused_with_those_there_are(toy: Any) -> None:
    for words in (["--solver", "euler"], ["--guides", "noisy+loud"], ["--edit", "regenerated"]):
        result = CliRunner().invoke(app, ["translate", *words])
        told = str(result.exception)
        assert words[1].split("+")[-1] in told and "choose of" in told


def test_help_shows_what_the_tables_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cfdiff.cli.translate", raising=False)  # a program builds its commands once
    registry.SOLVERS["midpoint"] = Midpoint
    told = " ".join(re.split(r"[\s│|]+", CliRunner().invoke(app, ["translate", "--help"]).output))
    assert "ddim, ddpm, dpm++, heun, unipc, midpoint" in told


@pytest.mark.parametrize("name", [n for n, t in vars(registry).items() if isinstance(t, registry.Registry)])
def test_every_entry_leads_to_something(name: str) -> None:
    table = getattr(registry, name)
    assert table and all(table[entry] is not None for entry in table)


def test_the_table_of_contributing_names_every_registry() -> None:
    text = (Path(registry.__file__).parent.parent / "CONTRIBUTING.md").read_text()
    for name, table in vars(registry).items():
        if isinstance(table, registry.Registry):
            assert f"`{name}`" in text
