"""What ends a piece beside the next one: in order, one at most, and whole before the process ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import raywork

from cfdiff import stopping
from cfdiff.errors import UserError
from cfdiff.stopping import Stopped
from cfdiff.workers.crew import Crew, Elsewhere, crew

LONG = 60.0


class Work:
    """Notes what is begun and ended; `first` and `then` are called before a piece is begun and ended."""

    def __init__(self) -> None:
        self.told = list[str]()
        self.first: Callable[[int], None] = lambda piece: None
        self.then: Callable[[int], None] = lambda piece: None

    def __call__(self, piece: int) -> int:
        raise AssertionError("it is done in two")

    def begin(self, piece: int) -> Callable[[], int]:
        self.first(piece)
        self.told.append(f"begun {piece}")
        return lambda: self.end(piece)

    def end(self, piece: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        self.then(piece)
        self.told.append(f"ended {piece}")
        return piece * piece


@pytest.fixture
def work() -> Work:
    return Work()


def here(work: Any) -> Crew:
    return crew(raywork.Shared(), lambda: work, Elsewhere(dict, ()))


@pytest.fixture
def heeded() -> Iterator[None]:
    """As the program does, which ends afterwards: SIGTERM waits for the end of a piece."""
    before = signal.getsignal(signal.SIGTERM)
    stopping.heed()
    yield
    signal.signal(signal.SIGTERM, before)
    stopping._asked = False


def test_a_piece_is_told_of_when_it_is_ended_and_in_order(work: Work) -> None:
    with here(work) as workers:
        for piece, result in workers.do([1, 2, 3]):
            assert result == piece * piece and f"ended {piece}" in work.told
            work.told.append(f"told {piece}")
    assert [words for words in work.told if words.startswith("told")] == ["told 1", "told 2", "told 3"]
    assert work.told.index("begun 2") < work.told.index("told 1") < work.told.index("begun 3")


def test_the_next_piece_is_begun_while_one_is_being_ended_and_no_third(work: Work) -> None:
    second, third = threading.Event(), threading.Event()
    work.first = lambda piece: {2: second, 3: third}.get(piece, threading.Event()).set()

    def then(piece: int) -> None:
        if piece == 1:
            assert second.wait(LONG), "the second was not begun beside it"
            assert not third.wait(0.05), "more than one waits"

    work.then = then
    with here(work) as workers:
        assert [result for _, result in workers.do([1, 2, 3])] == [1, 4, 9]


def test_what_goes_wrong_at_the_end_of_a_piece_is_raised_where_the_pieces_are_asked_for(work: Work) -> None:
    def then(piece: int) -> None:
        if piece == 2:
            raise UserError("the disk is full")

    work.then, told = then, list[int]()
    with pytest.raises(UserError, match="the disk is full"), here(work) as workers:
        for piece, _ in workers.do([1, 2, 3, 4]):
            told.append(piece)
    assert told == [1] and "begun 4" not in work.told


@pytest.mark.parametrize("ends", [KeyboardInterrupt(), UserError("a file is damaged")])
def test_whatever_ends_the_work_waits_for_the_end_of_what_was_begun(work: Work, ends: BaseException) -> None:
    go_on = threading.Event()
    work.then = lambda piece: None if go_on.wait(LONG) else None

    def first(piece: int) -> None:
        if piece == 2:
            threading.Timer(0.1, go_on.set).start()
            raise ends

    work.first = first
    with pytest.raises(type(ends)), here(work) as workers:
        list(workers.do([1, 2, 3]))
    assert work.told == ["begun 1", "ended 1"]


@pytest.mark.parametrize("at", ["begin", "between"])
def test_a_process_that_is_told_to_end_does_so_when_all_that_was_computed_is_there(
    work: Work, heeded: None, at: str
) -> None:
    def kill(piece: int) -> None:
        if piece == 2 and at == "begin":
            os.kill(os.getpid(), signal.SIGTERM)

    work.first = kill
    work.then = lambda piece: None if threading.Event().wait(0.1) else None
    with pytest.raises(Stopped), here(work) as workers:
        for _ in workers.do([1, 2, 3]):
            assert at == "between", "it ends after the second was begun"
            os.kill(os.getpid(), signal.SIGTERM)
    assert work.told[-1] == "ended 2" and "begun 3" not in work.told


def test_told_to_end_while_the_last_piece_is_ended_it_waits(work: Work, heeded: None) -> None:
    def then(piece: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(0.2)

    work.then = then
    with pytest.raises(Stopped), here(work) as workers:
        list(workers.do([1]))
    assert work.told == ["begun 1", "ended 1"]


def test_a_failure_at_the_end_of_a_piece_is_told_by_a_process_that_was_to_end(work: Work, heeded: None) -> None:
    def first(piece: int) -> None:
        if piece == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def then(piece: int) -> None:
        raise UserError("the disk is full")

    work.first, work.then = first, then
    with pytest.raises(UserError, match="the disk is full"), here(work) as workers:
        list(workers.do([1, 2, 3]))
