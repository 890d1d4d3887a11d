from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.edit.levels import DEPTHS, fitting_depth, reach
from cfdiff.models.bundled import weights_folder
from cfdiff.models.checkpoint import load_model


def test_a_guide_that_never_saw_the_class_says_nothing() -> None:
    assert fitting_depth({}, 1000) is None
    assert fitting_depth({"0": 0.6, "100": 0.6}, 1000) is None
    assert reach({"0": 0.6, "100": 0.6}) == 0 and reach({"0": 0.9, "100": 0.6}) == 0 and reach({"0": 0.9}) is None


def test_it_is_where_the_guide_has_lost_two_fifths_of_what_it_knew() -> None:
    straight = {str(level): 1 - level / 1000 / 2 for level in (0, 200, 400, 600, 800)}  # excess 0.5 (1 - level / T)
    assert fitting_depth(straight, 1000) == 0.4
    assert fitting_depth({level: 0.95 for level in straight}, 1000) == DEPTHS[1], "seen everywhere: as deep as may be"
    assert fitting_depth({"0": 0.95, "100": 0.7, "200": 0.5}, 1000) == DEPTHS[0], "seen nowhere but in the clean image"
    lucky = {**straight, "400": 0.5, "600": 0.9}
    assert fitting_depth(lucky, 1000) == fitting_depth({**straight, "400": 0.5, "600": 0.5}, 1000)


@given(st.lists(st.floats(0.4, 1.0), min_size=1, max_size=8), st.sampled_from([100, 1000]))
def test_it_is_always_a_depth(accuracy: list[float], T: int) -> None:
    depth = fitting_depth({str(k * T // 10): value for k, value in enumerate(accuracy)}, T)
    assert depth is None or DEPTHS[0] <= depth <= DEPTHS[1]


def test_the_cells_have_the_depth_that_a_search_found() -> None:
    guide = load_model(weights_folder("malaria-cells") / "guide.safetensors")
    assert fitting_depth(guide.card.training["validation"]["val_accuracy_by_level"], 1000) == pytest.approx(0.3)
