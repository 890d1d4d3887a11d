from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.errors import UserError
from cfdiff.store import open_result
from cfdiff.store.samples import SAMPLES, SampleParts, open_samples

ATTRS = {"seed": 0, "models": {}, "direction": "noise -> any class"}


def arrays(start: int, n: int, **changes: Any) -> dict[str, np.ndarray]:
    made = {
        "id": np.array([f"seed-{start + i}" for i in range(n)]),
        "image": np.full((n, 4, 4, 3), start, np.uint8),
        "steps": np.full(n, 5),
        "seed": start + np.arange(n),
        "target": np.full(n, -1),
        "network_calls": np.full(n, 5),
        "guide_calls": np.zeros(n, int),
        "status": np.full(n, "ok"),
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def test_parts_become_one_file_that_is_read_by_name(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    with SampleParts(out, {"command": "generate"}, 5, 2) as parts:
        for start, stop in parts.todo():
            parts.write(start, arrays(start, stop - start))
        parts.join(ATTRS)
    with open_samples(out) as samples:
        assert len(samples) == 5 and samples["seed"][:].tolist() == [0, 1, 2, 3, 4]
        assert samples.image[4].max() == 4 and "position" not in samples
        assert samples.attrs["format"] == "cfdiff-samples" and samples.attrs["format_version"] == 1
        assert all(samples[name].attrs["units"] == SAMPLES.fields[name].units for name in ("image", "steps"))
    with pytest.raises(UserError, match="is not a cfdiff result: give a file that cfdiff translate wrote"):
        open_result(out)


@pytest.mark.parametrize(
    ("changes", "fault"), [({"image": None}, "missing: image"), ({"source": np.zeros(2)}, "not in the schema: source")]
)
def test_what_does_not_fit_is_a_mistake_of_the_program(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with SampleParts(tmp_path / "out.h5", {}, 2, 2) as parts, pytest.raises(ValueError, match=fault):
        parts.write(0, arrays(0, 2, **changes))
