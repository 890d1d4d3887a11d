"""Retrieval figures against cases that one can count, and chance against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from cfdiff.metrics.retrieval import class_accuracy, images_to_texts, texts_to_images

OWN = np.array([0, 0, 0, 1, 1, 2])
PERFECT = np.eye(3)[OWN]


def test_a_perfect_model_finds_everything_and_its_opposite_nothing() -> None:
    for rate in (images_to_texts, texts_to_images):
        assert rate(PERFECT, OWN, 1).value == 1 and rate(-PERFECT, OWN, 1).value == 0


def test_of_the_commonest_captions_one_is_right_as_often_as_they_are_there() -> None:
    found = images_to_texts(PERFECT, OWN, 1), images_to_texts(PERFECT, OWN, 2)
    assert [one.commonest for one in found] == [0.5, 5 / 6] and [one.chance for one in found] == [1 / 3, 2 / 3]
    assert images_to_texts(PERFECT, OWN, 9).chance == 1


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("rate", [images_to_texts, texts_to_images])
def test_chance_is_what_a_model_gets_that_knows_nothing(rate: object, k: int) -> None:
    rng = np.random.default_rng(0)
    own = np.repeat(np.arange(6), [1, 2, 3, 5, 8, 11])
    said = [rate(rng.random((len(own), 6)), own, k) for _ in range(400)]  # type: ignore[operator]
    values = [one.value for one in said]
    assert abs(np.mean(values) - said[0].chance) < 4 * np.std(values) / 20


def test_intervals_are_over_groups() -> None:
    rng = np.random.default_rng(0)
    own, groups = rng.integers(0, 4, 200), np.repeat(np.arange(10), 20).astype(str)
    alike = np.eye(4)[own] * (rng.random(10) < 0.5).repeat(20)[:, None] + 0.01 * rng.random((200, 4))
    wide, narrow = images_to_texts(alike, own, 1, groups).interval, images_to_texts(alike, own, 1).interval
    assert wide is not None and narrow is not None and wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_the_accuracy_of_the_class_is_balanced() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    always = np.tile([1.0, 0.0], (100, 1))
    assert class_accuracy(always, labels).value == 0.5
    perfect = class_accuracy(np.eye(2)[labels], labels)
    assert perfect.value == 1.0 and perfect.interval is not None
    assert 0.8 < perfect.interval[0] < 0.9 and perfect.interval[1] == 1.0, "ten positives do not say 100 %"
