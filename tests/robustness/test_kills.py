"""Runs that are killed at random moments end in the same bytes, with exit code 0, when the command is given again.

CI kills a few; `make fuzz KILLS=200` as many as one likes, over every job of kills.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from robustness import kills

KILLS = int(os.environ.get("FUZZ_KILLS", "0"))
FITS = 8
"""Of the kills: a fit takes minutes."""
IN_CI = {"translate": 1, "bag-instance": 1, "train-classifier": 1}


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
