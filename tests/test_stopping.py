"""Signals that wait for the end of what they would break."""

from __future__ import annotations

import os
import signal
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cfdiff.files import atomic, guarded
from cfdiff.stopping import unbroken


class Interrupts:
    """Sends Ctrl-C to this process while it is pickled, as often as told."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __reduce__(self) -> tuple[type, tuple[()]]:
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)
        return (OrderedDict, ())


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """A shell that starts something in the background has it deaf to Ctrl-C; these tests are not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_waits_until_a_library_in_c_has_written_its_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt), atomic(path) as scratch, guarded(scratch) as file:
        torch.save({"mine": Interrupts(1), "numbers": torch.arange(9)}, file)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert os.listdir(tmp_path) == [], "it was told to stop before the file had its name"


def test_what_was_being_written_is_whole_and_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt), guarded(path) as file:
        torch.save({"mine": Interrupts(1), "numbers": torch.arange(9)}, file)
    assert torch.load(path, weights_only=True)["numbers"].tolist() == list(range(9))
    reached = []
    with pytest.raises(KeyboardInterrupt), unbroken():
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("after the first")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("after the second")
    assert reached == ["after the first"]


def test_a_handler_of_the_callers_own_stays_as_it_is() -> None:
    told = []
    before = signal.signal(signal.SIGINT, lambda number, frame: told.append(number))
    try:
        with unbroken():
            os.kill(os.getpid(), signal.SIGINT)
            assert told == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
