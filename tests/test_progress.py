from __future__ import annotations

from cfdiff.progress import Pace, in_words


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
