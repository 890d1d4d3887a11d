from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cfdiff.data import open_source
from cfdiff.data.bundled import BUNDLED, bundled_dir, bundled_file, card, datasets_root
from cfdiff.data.raw import file_sha256
from cfdiff.errors import UserError


def pixels_sha256(name: str) -> str:
    """Of all pixels, row by row."""
    source = open_source(name)
    return hashlib.sha256(source.read(np.arange(len(source))).tobytes()).hexdigest()


@pytest.mark.parametrize("name", BUNDLED)
def test_the_card_of_a_bundled_set_tells_the_truth(name: str) -> None:
    facts = card(name)
    source = open_source(name)
    assert facts["name"] == name
    assert facts["n"] == len(source)
    assert tuple(facts["image_shape"]) == source.shape
    assert facts["dtype"] == source.dtype
    assert tuple(facts["classes"]) == source.classes
    assert facts["sha256"] == file_sha256(bundled_file(name))
    for split, counts in facts["counts"].items():
        part = open_source(name, split=split)
        for label, class_name in enumerate(facts["classes"]):
            assert counts[class_name] == int((part.labels == label).sum())
    assert facts["groups"] == (None if source.groups is None else len(set(source.groups.tolist())))
    assert facts["pixels_sha256"] == pixels_sha256(name)
    assert facts["sha256"] in (bundled_dir(name) / "README.md").read_text()


def test_all_bundled_data_together_stay_under_30_megabytes() -> None:
    assert sum(path.stat().st_size for path in datasets_root().rglob("*")) < 30e6


def test_an_unknown_bundled_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UserError, match="'mnist': the bundled ones are malaria-cells, malaria-cells-rgb, pneumoniamnist, deeppcb"
    ):
        bundled_dir("mnist")
