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


def test_one_name_for_both_classes_is_an_error() -> None:
    with pytest.raises(UserError, match="both name the class 'dog'"):
        map_classes(np.array(["cat", "dog"]), "dog", "Dog", "x")
