from __future__ import annotations

import io

import pytest

from cfdiff.progress import Pace, in_words, logged, progress_bar


def test_the_rate_counts_from_the_first_word_of_a_thing_and_not_what_was_there_before() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.rate("translating", 100) is None
    now[0] = 4.0
    assert pace.rate("translating", 120) == 5.0
    now[0] = 10.0
    assert pace.rate("joining", 0) is None  # another thing has another rate
    now[0] = 12.0
    assert pace.rate("joining", 1) == 0.5
    assert pace.rate("joining", 0) is None  # and so has the same again


def test_a_rate_is_said_in_the_unit_that_one_can_read() -> None:
    assert in_words(None) == "" and in_words(12.345) == "12.3 a second" and in_words(0.05) == "3 a minute"


def test_a_log_gets_a_line_a_minute_and_none_of_what_takes_less() -> None:
    now, log = [0.0], io.StringIO()
    advance = logged(log, lambda: now[0])
    for second in range(0, 60, 5):
        now[0] = float(second)
        advance("translating", 40 + 2 * second, 40_000)
    assert log.getvalue() == ""
    for second in range(60, 301, 5):
        now[0] = float(second)
        advance("translating", 40 + 2 * second, 40_000)
    lines = log.getvalue().splitlines()
    assert lines[0] == "translating 160 of 40,000 (0%), 2 a second, 5 h 32 min left" and len(lines) == 5
    now[0] = 400.0
    advance("joining", 3, 5)
    assert log.getvalue().splitlines()[5:] == ["joining 3 of 5 (60%)"]  # of which no rate is known yet


def test_a_log_that_is_closed_ends_no_run() -> None:
    now, log = [0.0], io.StringIO()
    advance = logged(log, lambda: now[0])
    log.close()
    now[0] = 61.0
    advance("translating", 1, 2)


def test_without_a_terminal_the_progress_is_that_of_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cfdiff.progress.LINE_SECONDS", 0.0)
    with progress_bar("opening") as advance:
        advance("translating", 1, 4)
        advance("translating", 2, 4)
    told = capsys.readouterr()
    assert told.out == "" and [line[:25] for line in told.err.splitlines()] == [
        "translating 1 of 4 (25%)",
        "translating 2 of 4 (50%),",
    ]
