"""Runs that are killed at random moments end in the same bytes, with exit code 0, when the command is given again.

CI kills a few; `make fuzz KILLS=200` as many as one likes, over every job of kills.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from robustness import kills

KILLS = int(os.environ.get("FUZZ_KILLS", "0"))
FITS = 8
"""Of the kills: a fit takes minutes."""
IN_CI = {"translate": 1, "bag-instance": 1, "train-classifier": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, toys: ModuleType) -> tuple[Path, Path]:
    """Data, and models that have learned nothing: what is asked here is whether bytes are the same."""
    folder = tmp_path_factory.mktemp("kills")
    weights = folder / "weights"
    weights.mkdir()
    toys.save_unet(weights / "diffusion.safetensors", toys.toy_unet())
    toys.save_classifier(weights / "guide.safetensors", toys.toy_classifier(1, True))
    toys.save_classifier(weights / "checker.safetensors", toys.toy_classifier(2))
    toys.save_classifier(weights / "judge.safetensors", toys.toy_classifier(3))
    toys.write_npz(folder / "many.npz", 240)  # a fit wants 40 of each class
    return toys.write_npz(folder / "toy.npz", 24), weights


@pytest.mark.slow
@pytest.mark.parametrize("job", list(kills.JOBS) if KILLS else list(IN_CI))
def test_a_run_that_is_killed_ends_in_the_same_bytes(world: tuple[Path, Path], tmp_path: Path, job: str) -> None:
    fits = min(FITS, KILLS)
    number = IN_CI[job] if not KILLS else fits if job == "fit" else -(-(KILLS - fits) // (len(kills.JOBS) - 1))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [*map(str, world), str(tmp_path / "work"), job, str(number), "0"]
    done = subprocess.run([sys.executable, kills.__file__, *words], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print({key: value for key, value in found.items() if key != "problems"})
    assert found["kills"] >= number
    assert not found["problems"], "\n".join(found["problems"])
