from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.bag.plan import (
    Bag,
    Instances,
    apportion,
    choose,
    gumbel,
    make_bags,
    make_goal,
    read_ids,
)
from cfdiff.bag.policies import BORDERLINE, CONFIDENT
from cfdiff.data.source import Source
from cfdiff.engine import wanted_count
from cfdiff.errors import UserError

LABELS = st.lists(st.integers(0, 1), min_size=1, max_size=40)
MIXES = st.floats(0, 1, allow_nan=False)


def source_of(labels: list[int], groups: list[str] | None = None, order: list[int] | None = None) -> Source:
    """A source without pixels; `order` puts its rows elsewhere."""
    order = list(range(len(labels))) if order is None else order
    return Source(
        name="toy",
        ids=np.array([f"cell/{i}" for i in order]),
        labels=np.array([labels[i] for i in order], dtype=np.int8),
        classes=("no", "yes"),
        groups=None if groups is None else np.array([groups[i] for i in order]),
        splits=None,
        shape=(2, 2, 1),
        dtype=np.dtype(np.uint8),
        reader=lambda rows: np.zeros((len(rows), 2, 2, 1), np.uint8),
        mask_reader=None,
        digest=lambda: "",
        rows=np.arange(len(labels)),
    )


def instances_of(source: Source, **changes) -> Instances:
    n = len(source)
    given = {"preference": np.zeros(n), "noisy": True, "frozen": np.zeros(n, bool), "strata": None, **changes}
    return Instances(labels=source.labels, **given)


def whole(source: Source) -> Bag:
    return make_bags(source, None, None, False, 0)[0]


def edits_at(source: Source, mix: float, seed: int = 0, **changes) -> tuple[set[str], int, int]:
    """(ids to edit, their target, k)."""
    bag, known = whole(source), instances_of(source, **changes)
    goal = make_goal(0, bag, mix, known, seed)
    chosen = choose(goal.ranking, goal.edits, known.strata)
    return set(bag.keys[chosen].tolist()), goal.target, goal.wanted


@given(LABELS, MIXES, st.integers(0, 5))
def test_exactly_as_many_change_as_it_takes_and_only_of_the_other_class(labels, mix, seed) -> None:
    source = source_of(labels)
    ids, target, k = edits_at(source, mix, seed)
    assert k == wanted_count(len(labels), mix)
    assert len(ids) == abs(k - sum(labels))
    after = sum(labels) + (len(ids) if target == 1 else -len(ids))
    assert after == k
    assert all(labels[int(id.split("/")[1])] == 1 - target for id in ids)


@given(LABELS, MIXES, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_files(labels, mix, random) -> None:
    order = list(range(len(labels)))
    random.shuffle(order)
    assert edits_at(source_of(labels), mix)[0] == edits_at(source_of(labels, order=order), mix)[0]


@given(LABELS, MIXES, MIXES)
def test_of_two_mixes_on_one_side_the_farther_takes_all_that_the_nearer_took(labels, one, other) -> None:
    source = source_of(labels)
    (a, target_a, _), (b, target_b, _) = edits_at(source, one), edits_at(source, other)
    if target_a == target_b:
        assert a <= b or b <= a


def test_another_seed_chooses_others() -> None:
    source = source_of([0] * 40)
    assert edits_at(source, 0.5, 0)[0] != edits_at(source, 0.5, 1)[0]


def test_the_noise_is_gumbel() -> None:
    noise = gumbel(0, [str(i) for i in range(20_000)])
    assert noise.mean() == pytest.approx(0.5772, abs=0.03)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.08)


def test_an_instance_is_drawn_with_odds_proportional_to_those_of_the_checker() -> None:
    p = np.array([0.5, 0.8, 0.9])
    preference = CONFIDENT.score(p, np.ones(3, np.int8))
    first = [int((preference + gumbel(seed, ["a", "b", "c"])).argmax()) for seed in range(6000)]
    odds = p / (1 - p)
    assert np.bincount(first, minlength=3) / 6000 == pytest.approx(odds / odds.sum(), abs=0.02)


def test_confident_prefers_the_sure_and_borderline_the_unsure_of_their_own_class() -> None:
    p, labels = np.array([0.01, 0.4, 0.9, 0.55]), np.array([0, 0, 1, 1])
    assert np.argsort(-CONFIDENT.score(p, labels)).tolist() == [0, 2, 1, 3]
    assert np.argsort(-BORDERLINE.score(p, labels)).tolist() == [3, 1, 2, 0]


def test_temperature_0_follows_the_preference_strictly() -> None:
    source = source_of([0] * 10)
    ids, _, _ = edits_at(source, 0.3, preference=np.arange(10.0), noisy=False)
    assert ids == {"cell/9", "cell/8", "cell/7"}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(sum), st.data())
def test_shares_by_largest_remainder_lie_within_one_of_their_quota(counts, data) -> None:
    total = sum(counts)
    seats = data.draw(st.integers(0, total))
    shares = apportion(seats, np.array(counts))
    quota = seats * np.array(counts) / total
    assert shares.sum() == seats
    assert (np.abs(shares - quota) < 1).all()
    assert (shares <= counts).all()


def test_each_stratum_gives_its_share_and_its_own_first_choice() -> None:
    strata = np.array(["a"] * 6 + ["b"] * 3)
    ranking = np.array([8, 0, 1, 2, 3, 7, 4, 5, 6])
    assert choose(ranking, 3, strata).tolist() == [8, 0, 1]
    assert choose(ranking, 6, strata).tolist() == [8, 0, 1, 2, 3, 7]
    assert choose(ranking, 99, strata).tolist() == ranking.tolist()


def test_frozen_instances_never_change_and_an_unreachable_mix_names_the_range() -> None:
    source = source_of([0] * 6 + [1] * 4)
    frozen = np.array([True] * 3 + [False] * 5 + [True] * 2)
    ids, _, _ = edits_at(source, 0.7, frozen=frozen)
    assert ids == {"cell/3", "cell/4", "cell/5"}
    for mix in (0.8, 0.1):
        with pytest.raises(UserError, match="reaches 2 to 7, a mix of 0.2 to 0.7"):
            edits_at(source, mix, frozen=frozen)


def test_a_bag_with_too_few_that_may_be_translated_is_a_users_mistake() -> None:
    source = source_of([0] * 4)
    listed = np.array([-np.inf, 0.0, -np.inf, -np.inf])
    assert edits_at(source, 0.25, preference=listed, noisy=False)[0] == {"cell/1"}
    with pytest.raises(UserError, match="2 of its negative instances"):
        edits_at(source, 0.5, preference=listed, noisy=False)


def test_groups_are_bags_of_any_size() -> None:
    bags = make_bags(source_of([0, 1, 0, 1], ["b", "a", "b", "b"]), None, None, False, 0)
    assert [(bag.name, bag.rows.tolist()) for bag in bags] == [("a", [1]), ("b", [0, 2, 3])]


def test_a_source_without_groups_is_one_bag() -> None:
    assert [(bag.name, len(bag)) for bag in make_bags(source_of([0, 1]), None, None, False, 0)] == [("toy", 2)]


def test_instances_without_a_group_are_a_users_mistake() -> None:
    with pytest.raises(UserError, match="no group"):
        make_bags(source_of([0, 1], ["a", ""]), None, None, False, 0)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 9), st.randoms(use_true_random=False))
def test_bags_are_dealt_like_cards_whatever_the_order_of_files(n, size, most, random) -> None:
    size = min(size, n)
    order = list(range(n))
    random.shuffle(order)
    bags = make_bags(source_of([0] * n), size, most, False, 0)
    assert [len(set(bag.keys)) for bag in bags] == [size] * most
    first_round = [key for bag in bags[: n // size] for key in bag.keys]
    assert len(set(first_round)) == len(first_round)
    again = make_bags(source_of([0] * n, order=order), size, most, False, 0)
    assert [sorted(bag.keys) for bag in bags] == [sorted(bag.keys) for bag in again]


def test_with_replacement_an_instance_may_come_twice_under_two_keys() -> None:
    bags = make_bags(source_of([0, 1, 0]), 12, 2, True, 0)
    assert [len(set(bag.keys)) for bag in bags] == [12, 12]
    assert any("#2" in key for key in bags[0].keys)
    assert bags[0].rows.tolist() != bags[1].rows.tolist()


def test_a_bag_larger_than_the_data_needs_replacement() -> None:
    with pytest.raises(UserError, match="--replacement"):
        make_bags(source_of([0, 1]), 3, None, False, 0)
    with pytest.raises(UserError, match="--bag-size"):
        make_bags(source_of([0, 1]), None, None, True, 0)


def test_listed_ids_keep_their_order_and_mistakes_in_the_list_are_named(tmp_path: Path) -> None:
    known, file = np.array(["a", "b", "c"]), tmp_path / "ids.txt"
    file.write_text("c\n\na\n")
    assert read_ids(str(file), "--freeze", known, "toy").tolist() == [2, 0]
    for text, words in (("c\nc\n", "twice"), ("z\n", "not among the 3 instances of toy in use"), ("\n", "empty")):
        file.write_text(text)
        with pytest.raises(UserError, match=words):
            read_ids(str(file), "--freeze", known, "toy")
    with pytest.raises(UserError, match="cannot read"):
        read_ids(str(tmp_path / "none.txt"), "--freeze", known, "toy")
