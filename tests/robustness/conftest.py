"""What the jobs of kills.py work on."""

from pathlib import Path
from types import ModuleType

import pytest

from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, toys: ModuleType) -> tuple[Path, Path]:
    """Data, with more beside it for a fit, and a result; and models that have learned nothing: what is asked here is
    whether bytes are the same."""
    folder = tmp_path_factory.mktemp("world")
    weights = folder / "weights"
    weights.mkdir()
    toys.save_unet(weights / "diffusion.safetensors", toys.toy_unet())
    toys.save_classifier(weights / "guide.safetensors", toys.toy_classifier(1, True))
    toys.save_classifier(weights / "checker.safetensors", toys.toy_classifier(2))
    toys.save_classifier(weights / "judge.safetensors", toys.toy_classifier(3))
    toys.write_npz(folder / "many.npz", 240)  # a fit wants 40 of each class
    data = toys.write_npz(folder / "toy.npz", 24)
    translate(TranslateSettings(data=str(data), weights=str(weights), out=folder / "run.h5", limit=6, steps=3))
    return data, weights
