"""The bundled weights on bundled cells, as a newcomer runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cfdiff.models.bundled import WEIGHTS
from cfdiff.models.checkpoint import read_card
from cfdiff.store import open_result

BUNDLED = WEIGHTS / "malaria-cells"
SHIPPED = ("diffusion", "guide", "checker", "judge")


@pytest.mark.slow
@pytest.mark.parametrize("start, target", [("negative", 1), ("positive", 0)])
def test_the_command_with_no_option_but_a_limit_flips_bundled_cells(tmp_path: Path, start: str, target: int) -> None:
    command = [sys.executable, "-m", "cfdiff", "translate", "--from", start, "--limit", "8", "--json"]
    done = subprocess.run([*command, "--preview", "run.png"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["images"] == 8 and figures["flipped_judge"] >= 0.75 and figures["flipped_checker"] >= 0.75
    assert 0 < figures["mean_abs_difference"] <= 0.03
    (result,) = (tmp_path / "runs").iterdir()
    with open_result(result) as r:
        assert r.settings["data"] == "malaria-cells" and set(r["target"][:]) == {target}
        assert set(r.attrs["models"]) == set(SHIPPED)
        difference = (r.counterfactual[:].astype(float) - r.source[:]) / 255
        assert np.allclose(r.difference[:], difference, atol=1e-3)
    assert (tmp_path / "run.png").read_bytes()[:4] == b"\x89PNG"


def test_the_bundled_models_fit_together_and_are_small() -> None:
    paths = {part: BUNDLED / f"{part}.safetensors" for part in SHIPPED}
    assert sum(path.stat().st_size for path in BUNDLED.glob("*.safetensors")) < 46e6
    cards = {part: read_card(path) for part, path in paths.items()}
    assert {part: card.kind for part, card in cards.items()} == {
        "diffusion": "diffusion",
        "guide": "noisy-classifier",
        "checker": "clean-classifier",
        "judge": "clean-classifier",
    }
    assert cards["diffusion"].schedule == cards["guide"].schedule
