from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cfdiff import stopping
from cfdiff.store.part_files import DamagedPart, PartFiles
from cfdiff.store.samples import SampleParts, open_samples


def arrays(start: int, n: int) -> dict[str, np.ndarray]:
    return {
        "id": np.array([f"seed-{start + i}" for i in range(n)]),
        "image": np.full((n, 4, 4, 3), start, np.uint8),
        "steps": np.full(n, 5),
        "seed": start + np.arange(n),
        "target": np.full(n, -1),
        "network_calls": np.full(n, 5),
        "guide_calls": np.zeros(n, int),
        "status": np.full(n, "ok"),
    }


def test_files_that_were_sent_to_another_process_take_the_data_sets_of_their_layout(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    with SampleParts(out, {"command": "generate"}, 5, 2) as parts:
        there: PartFiles = pickle.loads(pickle.dumps(parts.files))
        for start, stop in parts.missing():
            there.write(start, arrays(start, stop - start))
            parts.wrote(start)
        with pytest.raises(ValueError, match="not in the schema: counterfactual"):
            there.write(0, {**arrays(0, 2), "counterfactual": np.zeros((2, 4, 4, 3), np.uint8)})
        parts.join({"seed": 0, "models": {}, "direction": "noise -> any class"})
    with open_samples(out) as samples:
        assert samples["seed"][:].tolist() == [0, 1, 2, 3, 4] and samples.image[4].max() == 4


def test_a_part_that_is_there_whole_is_not_computed_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def compute() -> dict[str, np.ndarray]:
        asked.append(1)
        return arrays(2, 2)

    with SampleParts(tmp_path / "out.h5", {"command": "generate"}, 5, 2) as parts:
        parts.files.fill(2, compute)
        parts.files.fill(2, compute)
        assert asked == [1] and parts.missing() == [(0, 2), (4, 5)]
        path = parts.files.path(2)
        path.write_bytes(path.read_bytes()[:-1])
        parts.files.fill(2, compute)
        assert asked == [1, 1] and parts.files.content(2) is not None


def test_parts_are_opened_in_order_and_up_to_the_one_that_is_damaged(tmp_path: Path) -> None:
    with SampleParts(tmp_path / "out.h5", {"command": "generate"}, 6, 2) as parts:
        for start in (0, 2, 4):
            parts.files.write(start, arrays(start, 2))
        files = [file for _, file in parts.files.opened([4, 0, 2]) if file["image"][0].min() == file["seed"][0]]
        assert len(files) == 3 and not any(files), "each is closed when the next is asked for"
        assert list(parts.files.opened([])) == []
        path = parts.files.path(2)
        path.write_bytes(path.read_bytes()[:-1])
        seen = []
        with pytest.raises(DamagedPart, match="part-00000002.h5 is damaged") as damaged:
            for start, _file in parts.files.opened([0, 2, 4]):
                seen.append(start)
        assert seen == [0] and damaged.value.start == 2


@pytest.fixture
def heeding(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(stopping, "_asked", False)
    stopping.heed()
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_process_that_is_told_to_end_while_it_computes_a_part_ends_when_that_is_written(
    tmp_path: Path, heeding: None
) -> None:
    def compute() -> dict[str, np.ndarray]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        return arrays(2, 2)

    with (
        pytest.raises(stopping.Stopped),
        SampleParts(tmp_path / "out.h5", {"command": "generate"}, 5, 2) as parts,
    ):
        parts.files.fill(2, compute)
    with SampleParts(tmp_path / "out.h5", {"command": "generate"}, 5, 2) as parts:
        assert parts.missing() == [(0, 2), (4, 5)]
