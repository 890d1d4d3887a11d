from __future__ import annotations

import pytest

from cfdiff.bag.mixes import parse_mixes
from cfdiff.engine import wanted_count
from cfdiff.errors import UserError


def test_a_mix_may_be_one_number_or_a_list() -> None:
    assert parse_mixes("0.3", None).of("P1", 0) == [0.3]
    assert parse_mixes("0.1, 0.3,0.5", None).of("P1", 0) == [0.1, 0.3, 0.5]


def test_a_sweep_holds_both_ends_and_no_rounding_of_its_steps() -> None:
    assert parse_mixes("0.3", "0:1:0.1").of("P1", 0) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert parse_mixes("0.3", "0.2:0.2:1").of("P1", 0) == [0.2]


def test_a_drawn_mix_depends_on_the_seed_and_the_bag_only() -> None:
    mixes = parse_mixes("beta:2,5", None)
    drawn = [mixes.of(f"P{i}", 0)[0] for i in range(400)]
    assert drawn == [mixes.of(f"P{i}", 0)[0] for i in range(400)]
    assert drawn != [mixes.of(f"P{i}", 1)[0] for i in range(400)]
    assert all(0 <= value <= 1 for value in drawn)
    assert sum(drawn) / 400 == pytest.approx(2 / 7, abs=0.03)


def test_counts_are_positives_beside_a_sweep_or_in_place_of_a_mix() -> None:
    """A tenth of a large bag is many: no sweep by fractions comes to one or two."""
    beside = parse_mixes("0.3", "0:1:0.5", "1,2,4")
    assert beside.within("P1", 65, 0) == [0.0, 1 / 65, 2 / 65, 4 / 65, 0.5, 1.0]
    assert beside.within("P1", 4, 0) == [0.0, 0.25, 0.5, 1.0], "what another mix comes to is made once"
    alone = parse_mixes("0.3", None, "2, 1").within("P1", 639, 0)
    assert [wanted_count(639, mix) for mix in alone] == [1, 2]
    assert parse_mixes("0.5,0.1", None).within("P1", 8, 0) == [0.5, 0.1]
    with pytest.raises(UserError, match="Bag 'P1' has 3 instances, fewer than 4 of --counts"):
        beside.within("P1", 3, 0)


@pytest.mark.parametrize("counts", ["", "1,,2", "0.5", "-1", "1,1"])
def test_impossible_counts_are_said_in_one_sentence(counts: str) -> None:
    with pytest.raises(UserError, match="--counts"):
        parse_mixes("0.3", None, counts)


@pytest.mark.parametrize(
    ("mix", "sweep", "words"),
    [
        ("1.2", None, "outside"),
        ("-0.1", None, "outside"),
        ("much", None, "not a number"),
        ("nan", None, "not a number"),
        ("", None, "not a number"),
        ("0.3,0.3", None, "twice"),
        ("beta:2", None, "beta distribution"),
        ("beta:0,1", None, "beta distribution"),
        ("0.3", "0:1", "start:stop:step"),
        ("0.3", "0:1:0", "no usable points"),
        ("0.3", "0.5:0.1:0.1", "no usable points"),
        ("0.3", "0:2:0.1", "outside"),
        ("0.3", "0:1:1e-9", "no usable points"),
    ],
)
def test_an_impossible_mix_is_said_in_one_sentence(mix: str, sweep: str | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_mixes(mix, sweep)
