from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from cfdiff.errors import UserError
from cfdiff.store import FORMAT_VERSION, SCHEMA, RunParts, open_result

ATTRS = {"seed": 7, "models": {"judge": "ab"}, "direction": "negative->positive", "classes": ["no", "yes"]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    source = np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4, 1)
    with RunParts(tmp_path / "run.h5", {"steps": 30, "mask": None}, 3, 3) as parts:
        parts.write(
            0,
            {
                "id": np.array(["a", "b", "ü"]),
                "label": np.zeros(3, np.int8),
                "target": np.ones(3, np.int8),
                "source": source,
                "counterfactual": source + 1,
                "difference": np.full(source.shape, 1 / 255, np.float32),
                "prob/judge": np.zeros((3, 2, 2), np.float32),
            },
        )
        return parts.join(ATTRS)


def test_a_result_is_read_by_name_and_index(run: Path) -> None:
    with open_result(run) as result:
        assert len(result) == 3
        assert result.source[1].shape == (4, 4, 1) and result.source[1][0, 0, 0] == 16
        np.testing.assert_array_equal(result.counterfactual[:], result.source[:] + 1)
        assert result.difference[0].dtype == np.float16
        assert result.prob("judge").shape == (3, 2, 2)
        assert list(result["id"][:]) == ["a", "b", "ü"]
        assert result.attrs["seed"] == 7 and result.attrs["models"] == {"judge": "ab"}
        assert result.attrs["classes"] == ["no", "yes"] and result.attrs["complete"]
        assert result.settings == {"steps": 30, "mask": None}
        assert "factual" not in result and "source" in result.names


def test_what_a_result_does_not_hold_is_an_error_that_lists_what_it_holds(run: Path) -> None:
    with (
        open_result(run) as result,
        pytest.raises(UserError, match="no data set prob/checker: it has id, label"),
    ):
        result.prob("checker")


def test_a_file_that_is_no_finished_result_is_refused_in_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_result(tmp_path / "missing.h5")
    with h5py.File(run, "a") as file:
        file.attrs["complete"] = False
    with pytest.raises(UserError, match="not complete"):
        open_result(run)
    with h5py.File(run, "a") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(UserError, match=f"format version {FORMAT_VERSION + 1}"):
        open_result(run)
    with h5py.File(run, "a") as file:
        del file.attrs["format"]
    with pytest.raises(UserError, match="not a cfdiff result"):
        open_result(run)
    run.write_bytes(run.read_bytes()[:500])
    with pytest.raises(UserError, match="damaged"):
        open_result(run)


def test_every_data_set_of_the_schema_is_described_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hdf5.md").read_text()
    documented = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
    expected = [
        (name, f"({', '.join(field.axes)})", field.dtype, field.units, field.description)
        for name, field in SCHEMA.items()
    ]
    rows = [tuple(cell.strip() for cell in row) for row in documented]
    assert rows[: len(expected)] == expected  # the data sets of bag files follow
