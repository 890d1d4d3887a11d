"""The same settings give the same outputs as before the packages were rebuilt.

Another processor rounds differently, and where a checker sits on its threshold one image may turn: a gray level, and
one image a case, are allowed. An error in the engine moves all of them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

spec = importlib.util.spec_from_file_location("golden_cases", Path(__file__).with_name("cases.py"))
assert spec is not None and spec.loader is not None
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases.CASES)
def test_the_outputs_are_those_of_before(case: str, tmp_path: Path) -> None:
    with np.load(cases.FILE) as golden:
        before = {key.removeprefix(f"{case}/"): golden[key] for key in golden.files if key.startswith(f"{case}/")}
    found = cases.run(case, tmp_path)
    assert set(found) == set(before)
    for name, values in found.items():
        if values.dtype.kind == "O":
            assert values.tolist() == before[name].tolist()
            continue
        assert values.shape == before[name].shape
        off = np.abs(values.astype(np.float64) - before[name]).reshape(len(values), -1).max(1)
        assert (off > (1 if name == "counterfactual" else 1e-6)).sum() <= 1, name
