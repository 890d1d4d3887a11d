from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.report.html.plots import before_after, change_histogram, dose_response, retry_histogram


def test_the_bars_of_a_histogram_are_as_high_as_their_counts() -> None:
    prob = np.array([[0.02, 0.99]] * 6 + [[0.02, 0.51]] * 3)
    plot = before_after("judge", prob, "sick")
    heights = [bar.height for bar in plot.bars]
    assert len(heights) == 2 and np.isclose(heights[1], 2 * heights[0], atol=0.2)
    assert [bar.words.split(": ")[1] for bar in plot.bars] == ["3", "6"]
    assert plot.lines[0][0] == "before"


@given(st.lists(st.tuples(st.floats(0, 0.9), st.booleans()), min_size=1, max_size=60))
def test_no_image_is_lost_in_a_histogram_and_no_bar_leaves_the_box(values: list[tuple[float, bool]]) -> None:
    change, flipped = np.array([v for v, _ in values]), np.array([f for _, f in values])
    plot = change_histogram(change, flipped)
    count = {"flipped": 0, "failed": 0}
    for bar in plot.bars:
        count[bar.series] += int(bar.words.rsplit(": ", 1)[1])
        assert bar.x >= plot.box[0] and bar.x + bar.width <= plot.box[2]
        assert bar.y >= plot.box[1] - 0.1 and bar.y + bar.height <= plot.box[3] + 0.1
    assert count == {"flipped": flipped.sum(), "failed": (~flipped).sum()}


def test_failures_stand_on_the_flipped_of_the_same_rung() -> None:
    plot = retry_histogram(np.array([0, 0, 0, 2]), np.array([True, True, False, False]))
    low, high, alone = plot.bars
    assert low.x == high.x and np.isclose(high.y + high.height, low.y, atol=0.2)
    assert alone.x > low.x and [tick.label for tick in plot.x_ticks] == ["0", "1", "2", "3", "4"]


def test_a_bag_that_got_what_was_asked_lies_on_the_diagonal() -> None:
    plot = dose_response(np.array([0.0, 0.3, 1.0]), np.array([0.0, 0.3, 1.0]), ["a", "b", "c"], "sick", "judge")
    x0, y0, x1, y1 = map(float, re.findall(r"[\d.]+", dict(plot.lines)["wish"]))
    for dot in plot.dots:
        assert np.isclose((dot.x - x0) / (x1 - x0), (dot.y - y0) / (y1 - y0), atol=2e-3)
    assert "mean" not in dict(plot.lines)


def test_where_mixes_repeat_a_line_joins_their_means() -> None:
    plot = dose_response(
        np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.2, 0.8, 1.0]), list("abcd"), "sick", "checker"
    )
    ys = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", dict(plot.lines)["mean"])]
    dots = [dot.y for dot in plot.dots]
    assert np.allclose(ys, [np.mean(dots[:2]), np.mean(dots[2:])], atol=0.11)
