from __future__ import annotations

import numpy as np
import pytest

from cfdiff.data.classes import KNOWN_PAIRS, map_classes
from cfdiff.errors import UserError


@pytest.mark.parametrize("pair", KNOWN_PAIRS)
def test_known_pairs_need_no_option_in_any_case_and_order(pair: tuple[str, str]) -> None:
    negative, positive = pair[0].upper(), pair[1].capitalize()
    labels, classes = map_classes(np.array([positive, negative, positive]), None, None, "x")
    assert classes == (negative, positive)
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == np.int8


def test_no_known_pair_contradicts_another() -> None:
    assert not {(a, b) for a, b in KNOWN_PAIRS} & {(b, a) for a, b in KNOWN_PAIRS}


def test_a_lone_class_of_a_known_pair_has_its_label() -> None:
    labels, classes = map_classes(np.array(["Parasitized"]), None, None, "x")
    assert labels.tolist() == [1]
    assert classes == ("uninfected", "Parasitized")


def test_names_on_the_command_line_win_over_known_pairs() -> None:
    labels, classes = map_classes(np.array(["negative", "positive"]), "positive", "negative", "x")
    assert classes == ("positive", "negative")
    assert labels.tolist() == [1, 0]


def test_one_name_is_enough_where_there_are_two_classes() -> None:
    names = np.array(["cat", "dog"])
    assert map_classes(names, "dog", None, "x")[1] == ("dog", "cat")
    assert map_classes(names, None, "dog", "x")[1] == ("cat", "dog")


@pytest.mark.parametrize("names", [["cat", "dog"], ["negative", "positive", "unclear"], ["cat"]])
def test_classes_whose_direction_is_not_clear_are_asked_for_by_name(names: list[str]) -> None:
    with pytest.raises(UserError, match=rf"{', '.join(names)}.*--negative NAME --positive NAME"):
        map_classes(np.array(names), None, None, "x")


def test_an_unknown_class_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="no class 'bird': its classes are cat, dog"):
        map_classes(np.array(["cat", "dog"]), "bird", "dog", "x")


@pytest.mark.parametrize("names", [["tumor", "none"], ["healthy", "-1"], ["-1"]])
def test_a_label_that_may_say_nothing_is_never_paired_by_guess(names: list[str]) -> None:
    with pytest.raises(UserError, match="--negative NAME --positive NAME"):
        map_classes(np.array(names), None, None, "x")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["healthy", "", "nan", "-1", "None"], [0, -1, -1, -1, -1]),
        (["-1", "-1"], [-1, -1]),
        (["-1", "1", ""], [0, 1, -1]),
        (["-1", "+1", "NaN"], [0, 1, -1]),
        (["-1", "0", "1"], [-1, 0, 1]),
        (["Healthy", "SICK", "-1"], [0, 1, -1]),
    ],
)
def test_unlabelled_is_only_what_cannot_be_a_class(names: list[str], labels: list[int]) -> None:
    assert map_classes(np.array(names), None, None, "x", unlabelled=("healthy", "sick"))[0].tolist() == labels


def test_a_name_on_the_command_line_is_a_class_whatever_it_looks_like() -> None:
    names = np.array(["tumor", "none", "-1", ""])
    labels, classes = map_classes(names, "None", "tumor", "x", unlabelled=("healthy", "sick"))
    assert labels.tolist() == [1, 0, -1, -1] and classes == ("none", "tumor")


@pytest.mark.parametrize("pair", [("Parasitized", "Uninfected"), ("1", "0"), ("Malignant", "healthy")])
def test_an_order_against_what_the_names_mean_is_refused_but_for_the_user(pair: tuple[str, str]) -> None:
    names = np.array(pair)
    with pytest.raises(UserError, match=f"--negative {pair[1]} --positive {pair[0]}"):
        map_classes(names, None, None, "x", stated=pair)
    assert map_classes(names, *pair, "x", stated=pair)[1] == pair


def test_one_name_for_both_classes_is_an_error() -> None:
    with pytest.raises(UserError, match="both name the class 'dog'"):
        map_classes(np.array(["cat", "dog"]), "dog", "Dog", "x")
