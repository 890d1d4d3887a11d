"""Splits by group: nothing in two splits, both classes in each, and whatever the order of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cfdiff.data import open_source
from cfdiff.data.placing import can_fill, place
from cfdiff.data.source import Source
from cfdiff.data.splitting import ENOUGH, JUDGE, SHARES, TEST, TRAIN, VAL, VERIFIER, own_split, plan_splits, spelled
from cfdiff.errors import UserError


def make(
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    splits: np.ndarray | None = None,
    pairs: np.ndarray | None = None,
    ids: np.ndarray | None = None,
) -> Source:
    """A source of images that nobody reads."""
    n = len(labels)
    return Source(
        name="toy",
        ids=np.array([f"i{i:05d}" for i in range(n)]) if ids is None else ids,
        labels=np.asarray(labels, np.int8),
        classes=("healthy", "sick"),
        groups=groups,
        splits=splits,
        shape=(4, 4, 1),
        dtype=np.dtype(np.uint8),
        reader=lambda rows: np.zeros((len(rows), 4, 4, 1), np.uint8),
        mask_reader=None,
        digest=lambda rows: "",
        rows=np.arange(n),
        columns={} if pairs is None else {"pair": pairs},
    )


def grouped(sizes: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of groups with so many negatives and positives."""
    labels = np.concatenate([np.repeat([0, 1], pair) for pair in sizes])
    return labels, np.repeat([f"g{k}" for k in range(len(sizes))], [a + b for a, b in sizes])


def crossing(splits: np.ndarray, units: np.ndarray) -> dict[str, set[str]]:
    """Unit -> the splits that it is in."""
    found: dict[str, set[str]] = {}
    for unit, split in zip(units.tolist(), splits.tolist(), strict=True):
        found.setdefault(unit, set()).add(split)
    return found


def both_classes(source: Source, splits: np.ndarray) -> bool:
    return all(set(source.labels[splits == split].tolist()) >= {0, 1} for split in SHARES)


SIZES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any), min_size=5, max_size=40)


@given(SIZES, st.integers(0, 5), st.randoms(use_true_random=False))
def test_every_image_is_in_one_split_with_its_group_and_both_classes_are_in_each(
    sizes: list[tuple[int, int]], seed: int, random: object
) -> None:
    labels, groups = grouped(sizes)
    both = sum(a > 0 and b > 0 for a, b in sizes)
    assume(both + min(sum(b == 0 for _, b in sizes), sum(a == 0 for a, _ in sizes)) >= len(SHARES))
    source = make(labels, groups)
    plan = plan_splits(source, seed)
    assert len(plan.splits) == len(source) and set(plan.splits.tolist()) == set(SHARES)
    shared = {note.split()[0] for note in plan.notes if "shares groups with train" in note}
    assert all(
        len(splits - shared - {TRAIN}) + bool(splits & {TRAIN, *shared}) == 1
        for splits in crossing(plan.splits, groups).values()
    )
    assert both_classes(source, plan.splits)
    val = plan.splits == VAL
    rarer = min(labels.sum(), (1 - labels).sum())
    assert min(labels[val].sum(), (1 - labels)[val].sum()) >= (2 if rarer >= ENOUGH else 1)
    assert not shared or rarer >= ENOUGH, "else there are groups enough"
    order = np.arange(len(labels))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = plan_splits(source.select(order), seed)
    assert again.splits.tolist() == plan.splits[order].tolist() and again.notes == plan.notes


@given(st.lists(st.sampled_from([0, 1]), min_size=12, max_size=80), st.integers(0, 3))
def test_without_groups_images_are_divided_near_the_shares(labels: list[int], seed: int) -> None:
    assume(5 <= sum(labels) <= len(labels) - 5)
    source = make(np.array(labels))
    plan = plan_splits(source, seed)
    assert both_classes(source, plan.splits)
    for split, share in SHARES.items():
        assert abs((plan.splits == split).sum() - share * len(labels)) <= 4


def test_shares_are_near_by_class_with_many_groups_and_one_that_holds_a_third() -> None:
    rng = np.random.default_rng(0)
    labels, groups = grouped([(400, 200), *((int(a), int(b)) for a, b in rng.integers(1, 30, (60, 2)))])
    source = make(labels, groups)
    splits = plan_splits(source).splits
    for label in (0, 1):
        for split, share in SHARES.items():
            got = np.mean(splits[labels == label] == split)
            assert abs(got - share) < 0.04, (split, label, got)
    assert set(splits[groups == "g0"].tolist()) == {TRAIN}
    assert len(set(groups[splits == TEST].tolist())) >= 5


def test_another_seed_is_another_plan_and_the_same_seed_the_same() -> None:
    source = make(*grouped([(4, 4)] * 30))
    plans = [plan_splits(source, seed).splits.tolist() for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]


def test_images_of_other_classes_follow_their_group() -> None:
    labels, groups = grouped([(4, 4)] * 12)
    labels, groups = np.append(labels, [-1] * 6), np.append(groups, ["g0"] * 3 + ["other"] * 3)
    source = make(labels, groups)
    splits = plan_splits(source).splits
    assert set(splits.tolist()) == set(SHARES) and both_classes(source, splits)
    assert all(len(found) == 1 for found in crossing(splits, groups).values())


def test_splits_of_the_data_stay_and_what_is_missing_is_cut_from_train() -> None:
    labels, groups = grouped([(5, 5)] * 20)
    own = np.repeat(["train"] * 15 + ["val"] + ["test"] * 4, 10)
    source = make(labels, groups, own)
    splits = plan_splits(source).splits
    for kept in (VAL, TEST):
        assert (splits == kept).tolist() == (own == kept).tolist()
    assert set(splits[own == "train"].tolist()) == {TRAIN, VERIFIER, JUDGE}
    assert both_classes(source, splits)
    assert all(len(found) == 1 for found in crossing(splits, groups).values())


def test_a_large_val_gives_the_judge_its_images_and_train_none() -> None:
    labels, groups = grouped([(5, 5)] * 20)
    own = np.repeat(["training"] * 12 + ["valid"] * 5 + ["test"] * 3, 10)
    plan = plan_splits(make(labels, groups, own))
    assert set(plan.splits[own == "valid"].tolist()) == {"valid", JUDGE}
    assert set(plan.splits[own == "training"].tolist()) == {"training", VERIFIER}
    assert any("valid is large enough" in note for note in plan.notes)


def test_the_judge_and_train_guide_of_the_bundled_cells_stay_and_the_verifier_is_cut_by_patient() -> None:
    source = open_source("malaria-cells")
    assert source.splits is not None and source.groups is not None
    splits = plan_splits(source).splits
    for kept in ("train-judge", "val", "test"):
        assert (splits == kept).tolist() == (source.splits == kept).tolist()
    assert set(splits[source.splits == "train-guide"].tolist()) == {"train-guide", VERIFIER}
    assert all(len(found) == 1 for found in crossing(splits, source.groups).values())
    here = splits == VERIFIER
    assert set(source.labels[here].tolist()) == {0, 1} and 0.08 < here[source.splits == "train-guide"].mean() < 0.3


def test_images_of_no_split_are_divided_with_those_to_train_on_and_other_splits_stay() -> None:
    labels, groups = grouped([(3, 3)] * 20)
    own = np.repeat([""] * 14 + ["test"] * 4 + ["unclear"] * 2, 6)
    plan = plan_splits(make(labels, groups, own))
    assert (plan.splits == "unclear").tolist() == (own == "unclear").tolist()
    assert set(plan.splits[own == ""].tolist()) == set(SHARES) - {TEST}
    assert any("unclear" in note and "no role" in note for note in plan.notes)


def test_splits_are_known_however_they_are_spelled() -> None:
    labels, groups = grouped([(5, 5)] * 20)
    own = np.repeat(["Training"] * 15 + ["Dev"] + ["Holdout"] * 4, 10)
    source = make(labels, groups, own)
    splits = plan_splits(source).splits
    assert (splits == "Holdout").tolist() == (own == "Holdout").tolist()
    assert set(splits[own == "Training"].tolist()) == {"Training", VERIFIER, JUDGE}
    assert (own_split(source, TEST), own_split(source, VAL, TEST)) == ("Holdout", "Dev")
    assert own_split(source, JUDGE) is None and own_split(make(labels), TEST) is None
    assert spelled(TEST, ["Testing", "test"]) == "test" and spelled(TEST, ["contest"]) is None


@pytest.mark.parametrize(("role", "positives"), [(VAL, 0), (VAL, 1), (JUDGE, 0), (VERIFIER, 0)])
def test_an_own_split_that_lacks_a_class_is_divided_anew_with_a_word(role: str, positives: int) -> None:
    labels, groups = grouped([(5, 5)] * 20 + [(10, positives)])
    own = np.repeat([TRAIN] * 16 + [TEST] * 4, 10).tolist() + [role] * (10 + positives)
    source = make(labels, groups, np.array(own))
    plan = plan_splits(source)
    assert both_classes(source, plan.splits)
    assert min(np.sum((plan.splits == role) & (source.labels == label)) for label in (0, 1)) >= 2
    said = f"The split {role} of toy has {positives} images of class 'sick'"
    assert any(note.startswith(said) for note in plan.notes)


def test_an_own_test_that_lacks_a_class_is_an_error_as_its_images_are_no_ones_to_learn_from() -> None:
    labels, groups = grouped([(5, 5)] * 20 + [(10, 0)])
    own = np.repeat([TRAIN, TEST], [200, 10])
    with pytest.raises(UserError, match="The split test of toy has 0 images of class .sick.*leave that split out"):
        plan_splits(make(labels, groups, own))


@pytest.mark.parametrize("seed", range(20))
def test_rare_positives_in_few_groups_are_in_val_more_than_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, groups = grouped([(100, 0)] * 10)
    labels[rng.choice(len(labels), 40, replace=False)] = 1
    plan = plan_splits(make(labels, groups), seed)
    assert labels[plan.splits == VAL].sum() >= 2


def test_splits_of_no_role_are_divided_anew_with_a_word() -> None:
    labels, groups = grouped([(3, 3)] * 20)
    plan = plan_splits(make(labels, groups, np.repeat(["fold1", "fold2"], 60)))
    assert set(plan.splits.tolist()) == set(SHARES)
    assert any("fold1, fold2 of toy are of no role" in note for note in plan.notes)


def test_data_with_nothing_to_train_on_is_an_error() -> None:
    own = np.array(["val"] * 10 + ["test"] * 10)
    with pytest.raises(UserError, match="val, and none to train on: call that one train"):
        plan_splits(make(np.arange(20) % 2, splits=own))


@pytest.mark.parametrize(
    ("groups", "sharing"),
    [(5, []), (4, [VERIFIER]), (3, [VERIFIER, VAL]), (2, [VERIFIER, VAL, JUDGE])],
)
def test_too_few_groups_are_given_up_in_the_stated_order(groups: int, sharing: list[str]) -> None:
    source = make(*grouped([(20, 20)] * groups))
    assert source.groups is not None
    plan = plan_splits(source)
    assert both_classes(source, plan.splits)
    said = [note for note in plan.notes if "shares groups with train" in note]
    assert [note.split()[0] for note in said] == sharing
    splits_of = crossing(plan.splits, source.groups)
    for split in set(SHARES) - {TRAIN, *sharing}:
        assert all(found == {split} for found in splits_of.values() if split in found)
    together = [found for found in splits_of.values() if TRAIN in found]
    assert {split for found in together for split in found} == {TRAIN, *sharing}


def test_a_single_group_is_divided_by_image_with_a_warning_about_intervals_and_judge() -> None:
    source = make(*grouped([(20, 30)]))
    plan = plan_splits(source)
    assert both_classes(source, plan.splits)
    assert any("images are divided" in n and "intervals are too narrow" in n and "judge" in n for n in plan.notes)


def test_a_verifier_that_no_group_is_left_for_shares_those_of_train_and_the_test_stays_apart() -> None:
    labels, groups = grouped([(10, 10)] * 4)
    plan = plan_splits(make(labels, groups, np.repeat(["train", "train-judge", "val", "test"], 20)))
    assert set(plan.splits[groups == "g0"].tolist()) == {TRAIN, VERIFIER}
    assert any(note.startswith("verifier") or note.startswith(f"{VERIFIER} shares groups") for note in plan.notes)
    assert not any("intervals are too narrow" in note for note in plan.notes)


def test_images_of_a_pair_stay_together() -> None:
    n = 200
    pairs = np.repeat([f"p{k}" for k in range(n // 2)], 2)
    source = make(np.arange(n) % 2, pairs=pairs)
    splits = plan_splits(source).splits
    assert all(len(found) == 1 for found in crossing(splits, pairs).values())
    assert both_classes(source, splits)


def test_too_few_pairs_for_whole_ones_divide_images() -> None:
    pairs = np.array(["p"] * 10 + [""] * 4)
    source = make(np.arange(14) % 2, pairs=pairs)
    assert both_classes(source, plan_splits(source).splits)


def test_groups_that_the_data_has_in_several_splits_are_named() -> None:
    labels, groups = grouped([(5, 5)] * 12)
    own = np.array(["train", "test"] * 60)
    notes = plan_splits(make(labels, groups, own)).notes
    assert any("12 groups of toy (g0 for one) are in more than one" in note for note in notes)


def test_a_test_of_one_group_and_few_images_are_said() -> None:
    notes = plan_splits(make(*grouped([(4, 4)] * 5))).notes
    assert any("test is a single group" in note for note in notes)
    assert any(note.startswith("Few images of one class: train (4)") for note in notes)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0] * 20, "no image of class 'sick', and every split needs both classes"),
        ([0] * 20 + [1] * 4, "4 images of class 'sick' to divide into .* give 5 of each class, better 50 or more"),
        ([0] + [1] * 20, "1 image of class 'healthy'"),
    ],
)
def test_too_few_images_or_one_class_is_an_error_that_says_how_many(labels: list[int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan_splits(make(np.array(labels)))


@given(
    st.tuples(*[st.integers(0, 4)] * 3),
    st.lists(st.sampled_from([(True, True), (True, False), (False, True), (False, False)]), max_size=4),
)
def test_can_fill_agrees_with_trying_everything(left: tuple[int, int, int], lacks: list[tuple[bool, bool]]) -> None:
    def tried(left: tuple[int, ...], lacks: list[tuple[bool, bool]]) -> bool:
        if not any(a or b for a, b in lacks):
            return True
        for kind, (neg, pos) in enumerate(((True, True), (True, False), (False, True))):
            if left[kind]:
                fewer = tuple(n - (k == kind) for k, n in enumerate(left))
                for r, (a, b) in enumerate(lacks):
                    after = (a and not neg, b and not pos)
                    if after != (a, b) and tried(fewer, [*lacks[:r], after, *lacks[r + 1 :]]):
                        return True
        return False

    assert can_fill(left, lacks) == tried(left, lacks)


def test_place_says_where_units_are_too_few() -> None:
    labels, units = np.array([0, 1, 0]), np.array(["a", "a", "b"])
    assert place(labels, units, {"x": 0.5, "y": 0.5}, 0) is None


def test_a_plan_of_a_file_names_the_rows_of_the_file(toys: object, tmp_path: Path) -> None:
    write: Callable[..., Path] = toys.write_npz  # type: ignore[attr-defined]
    source = open_source(write(tmp_path / "toy.npz", 120))
    assert source.groups is not None
    splits = plan_splits(source).splits
    assert all(len(found) == 1 for found in crossing(splits, source.groups).values())
