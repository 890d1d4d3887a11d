"""Which pairs are kept, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfdiff.data.open import open_source
from cfdiff.errors import UserError
from cfdiff.supervise.pairs import Pairs, read_pairs

Make = Callable[..., Any]
N = 12


@pytest.fixture
def read(world: Path, quick: Make) -> Callable[..., Pairs]:
    """The pairs of files, as a training on the world would take them."""

    def of(*files: Path, **changes: Any) -> Pairs:
        train = open_source(world, split="train", group_key="patient")
        return read_pairs(quick(pairs=files, **changes), train)

    return of


def probabilities(sure: list[float], label: np.ndarray) -> np.ndarray:
    """(n, 2, 2): after the edit, `sure` of the other class."""
    p = np.zeros((len(sure), 2, 2), np.float32)
    p[np.arange(len(sure)), 0, label] = 1
    p[np.arange(len(sure)), 1, 1 - label] = sure
    p[np.arange(len(sure)), 1, label] = 1 - np.array(sure)
    return p


def test_an_accepted_pair_has_the_class_asked_for_and_the_row_of_its_source(world: Path, make_pairs: Make, read: Make):
    found = read(make_pairs(np.array([5, 2])))
    data = dict(np.load(world))
    assert found.rows.tolist() == [5, 2] and found.labels.tolist() == [0, 1] and found.accepted.all()
    own = found.source(open_source(world, split="train", group_key="patient"))
    assert (own.read([0, 1]) == found.images).all() and own.labels.tolist() == [0, 1]
    assert own.groups.tolist() == data["patient"][[5, 2]].tolist()
    assert list(found.sentences()) == ["2 of 2 pairs are kept."]


def test_what_the_verifier_does_not_accept_is_left_out_whatever_the_checker_says(make_pairs: Make, read: Make) -> None:
    rows, sure = np.arange(4), [0.95, 0.89, 0.5, 0.02]
    verifier, checker = probabilities(sure, rows % 2), probabilities([0.99] * 4, rows % 2)
    run = make_pairs(rows, **{"prob/verifier": verifier, "prob/checker": checker})
    assert read(run).rows.tolist() == [0] and read(run).counts == {
        "not of the training split": 0, "accepted": 1, "not accepted": 3,
    }  # fmt: skip
    assert read(run, accept=0.6).rows.tolist() == [0, 1]


def test_rejected_pairs_may_be_learned_with_the_class_of_their_source(make_pairs: Make, read: Make) -> None:
    rows = np.arange(4)
    run = make_pairs(rows, **{"prob/verifier": probabilities([0.95, 0.89, 0.5, 0.02], rows % 2)})
    found = read(run, rejected="source")
    assert found.rows.tolist() == [0, 3] and found.labels.tolist() == [1, 1]
    assert found.accepted.tolist() == [True, False] and found.counts["rejected"] == 1


def test_the_checker_accepts_where_there_is_no_verifier_with_a_warning(make_pairs: Make, read: Make) -> None:
    rows = np.arange(2)
    parts = {"prob/verifier": None, "prob/checker": probabilities([0.85, 0.7], rows % 2)}
    found = read(make_pairs(rows, settings={"target": 0.8}, **parts))
    assert found.rows.tolist() == [0], "a checker need be no surer than its target"
    assert any(sentence.startswith("Warning: a run without a verifier") for sentence in found.sentences())
    with pytest.raises(UserError, match="takes the word of a verifier"):
        read(make_pairs(rows, out="again.h5", **parts), rejected="source")


def test_pairs_of_other_splits_are_left_out_and_counted(make_pairs: Make, read: Make) -> None:
    found = read(make_pairs(np.array([0, 239, 240, 300])))
    assert found.rows.tolist() == [0, 239] and found.counts["not of the training split"] == 2
    assert "2 not of the training split" in next(iter(found.sentences()))
    with pytest.raises(UserError, match=r"none is left .*cfdiff translate --split"):
        read(make_pairs(np.array([300, 301]), out="test.h5"))


def test_pairs_that_changed_nothing_or_were_of_the_class_before_are_left_out(world: Path, make_pairs: Make, read: Make):
    rows, images = np.arange(3), dict(np.load(world))["images"][:3]
    after = images.copy()
    after[1:, 8, 8] += 40
    run = make_pairs(rows, counterfactual=after, target=np.array([1, 1, 1]))
    with pytest.raises(UserError, match="not accepted"):
        read(run, accept=0.99)
    found = read(run)
    assert (
        found.rows.tolist() == [2] and found.counts["unchanged"] == found.counts["of the class asked for before"] == 1
    )


def test_a_quarantined_pair_is_left_out(make_pairs: Make, read: Make) -> None:
    status = np.array(["ok", "quarantined: the edit was not finite, the source stands in its place"])
    assert read(make_pairs(np.arange(2), status=status)).counts["quarantined"] == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prob/verifier": None}, "says of no pair whether a classifier accepts it"),
        ({"settings": {"classes": ["sick", "healthy"]}}, "set --negative sick --positive healthy"),
        ({"settings": {"classes": ["cat", "dog"]}}, "goes between cat and dog"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_a_sentence(make_pairs: Make, read: Make, changes: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(make_pairs(np.arange(4), **changes))


def test_sources_that_are_other_images_than_the_datas_are_refused(world: Path, make_pairs: Make, read: Make) -> None:
    source = dict(np.load(world))["images"][:4]
    source[2, 0, 0] ^= 1
    with pytest.raises(UserError, match="The image 'cell/002' in run.h5 is another one than in world.npz"):
        read(make_pairs(np.arange(4), source=source))


def test_files_of_both_directions_are_joined(make_pairs: Make, read: Make) -> None:
    found = read(make_pairs(np.array([0, 2]), out="a.h5"), make_pairs(np.array([1]), out="b.h5"))
    assert found.rows.tolist() == [0, 2, 1] and sorted(one["name"] for one in found.files) == ["a.h5", "b.h5"]
