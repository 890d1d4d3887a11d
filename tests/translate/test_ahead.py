"""The next part is read while this one is edited, and nothing else is other than without."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.data import open_source
from cfdiff.data.source import Reader, Source
from cfdiff.errors import UserError
from cfdiff.translate import run
from cfdiff.translate.ahead import reading_ahead
from cfdiff.translate.run import translate

LONG = 60.0  # seconds after which what should have happened by another thread has not


@pytest.fixture
def source(tmp_path: Path) -> Source:
    images = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(10) % 2, masks=images > 4)
    return open_source(tmp_path / "d.npz")


def told(source: Source, before: Callable[[list[int]], None]) -> Source:
    """The source, which says which rows it is about to read."""
    reader = source.reader

    def read(rows: np.ndarray) -> np.ndarray:
        before(rows.tolist())
        return reader(rows)

    changed: Reader = read
    return replace(source, reader=changed)


def test_the_next_part_is_read_while_this_one_is_in_work_and_no_other(source: Source) -> None:
    second, seen = threading.Event(), list[list[int]]()

    def before(rows: list[int]) -> None:
        seen.append(rows)
        if rows == [4, 5, 6, 7]:
            second.set()

    with reading_ahead(told(source, before), [(0, 4), (4, 8), (8, 10)]) as ahead:
        assert ahead.read(range(4))[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
        assert second.wait(LONG)
        assert seen == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert ahead.read(range(4, 8))[:, 0, 0, 0].tolist() == [4, 5, 6, 7]
        assert ahead.read(range(8, 10))[:, 0, 0, 0].tolist() == [8, 9]
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_halves_and_parts_that_another_did_are_read_right(source: Source) -> None:
    with reading_ahead(source, [(0, 4), (4, 8), (8, 10)]) as ahead:
        for rows in ([0, 1, 2, 3], [0, 1], [2, 3], [8, 9], [4, 5, 6, 7], [5], [9, 1]):
            assert ahead.read(rows)[:, 0, 0, 0].tolist() == rows
            masks = ahead.read_masks(rows)
            assert masks is not None and masks[:, 0, 0].tolist() == [row > 4 for row in rows]
    with reading_ahead(source.select([7, 2, 5]), [(0, 2), (2, 3)]) as ahead:
        assert [ahead.read(rows)[:, 0, 0, 0].tolist() for rows in ([0, 1], [2])] == [[7, 2], [5]]


def test_an_error_is_met_at_its_part_and_what_passes_is_not_met(source: Source) -> None:
    tries = {4: 0, 8: 0}

    def before(rows: list[int]) -> None:
        tries[rows[0]] = tries.get(rows[0], 0) + 1
        if rows[0] == 4 and tries[4] == 1:
            raise MemoryError  # as long as the part before is held
        if rows[0] == 8:
            raise UserError("8 is damaged")

    with reading_ahead(told(source, before), [(0, 4), (4, 8), (8, 10)]) as ahead:
        ahead.read(range(4))
        assert ahead.read(range(4, 8))[:, 0, 0, 0].tolist() == [4, 5, 6, 7]
        with pytest.raises(UserError, match="8 is damaged"):
            ahead.read(range(8, 10))
    assert tries == {0: 1, 4: 2, 8: 2}


def test_the_end_waits_for_what_is_being_read(source: Source) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), list[bool]()

    def before(rows: list[int]) -> None:
        if rows[0] == 4:
            begun.set()
            go_on.wait(LONG)
            ended.append(True)

    with pytest.raises(KeyboardInterrupt), reading_ahead(told(source, before), [(0, 4), (4, 8)]) as ahead:
        ahead.read(range(4))
        assert begun.wait(LONG)
        threading.Timer(0.1, go_on.set).start()
        raise KeyboardInterrupt
    assert ended == [True]


def test_a_translation_reads_every_part_once(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[str, int]]()
    real = run.reading_ahead

    def noting(source: Source, pieces: Any) -> Any:
        return real(told(source, lambda rows: seen.append((threading.current_thread().name, len(rows)))), pieces)

    monkeypatch.setattr(run, "reading_ahead", noting)
    translate(toy.settings(tmp_path / "run.h5", limit=6, steps=2, retries=0, batch_size=2, threads=1))
    assert [n for _, n in seen] == [2, 2, 2] and [name for name, _ in seen][1:] == ["reads ahead"] * 2
