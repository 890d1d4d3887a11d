from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from mil_toy import export, quick, toy_bags, translated

from cfdiff.mil.train import mil_train


@dataclass(frozen=True)
class MilToy:
    """Folders of toy bags of features, a sweep of the training ones and of the test ones, and a trained model."""

    train: Path
    mixes: Path
    test: Path
    sweep: Path
    model: Path


@pytest.fixture(scope="session")
def mil_toy(tmp_path_factory: pytest.TempPathFactory) -> MilToy:
    pytest.importorskip("torchmil")
    folder = tmp_path_factory.mktemp("mil")
    train, test = toy_bags(20, 0), toy_bags(16, 7, name="test")
    data, mixes = export(train, folder / "bags"), export(translated(train, 0, sham=0.3), folder / "mixes")
    tested, sweep = export(test, folder / "test"), export(translated(test, 1), folder / "sweep")
    model = mil_train(quick(data, folder / "model", mixtures=(str(mixes),)), lambda *told: None).model
    return MilToy(data, mixes, tested, sweep, model)
