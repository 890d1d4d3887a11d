"""The line that finds a confound, both ways: it speaks where an edit changes a mark and is silent where it does not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from cfdiff.doctor import confound as check
from cfdiff.doctor.confound import BRIGHTNESS, suspects
from cfdiff.doctor.lines import Line

N, SIZE, EDITS = 48, 24, 16
CORNER = "the place at rows 0-3, columns 0-3"


def images(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Noise of a brightness of each image's own, and a spot in the middle of positives."""
    light = rng.normal(0.5, 0.05, (len(labels), 1, 1))
    found = light + rng.normal(0, 0.03, (len(labels), SIZE, SIZE))
    found[:, 10:14, 10:14] += 0.3 * labels[:, None, None]
    return found[..., None].clip(0, 1)


def guilty(x: np.ndarray, labels: np.ndarray, before: np.ndarray, after: np.ndarray, sources: np.ndarray) -> list[str]:
    """The names of what the check would speak of."""
    found = suspects(x, labels, before, after, sources)
    return [one.name for one in found if one.goes_with_the_class(len(found)) and one.changed]


@pytest.fixture
def world() -> tuple[np.random.Generator, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A generator, images (48), labels, and the first 16 of them, half of each class, with the spot moved over."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    x = images(rng, labels)
    after = x[:EDITS].copy()
    after[:, 10:14, 10:14] += 0.3 * np.where(labels[:EDITS] == 0, 1, -1)[:, None, None, None]
    return rng, x, labels, after, labels[:EDITS]


def with_mark(x: np.ndarray, there: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[there, :3, :3] = 1
    return x


def test_an_edit_of_the_cause_alone_is_no_confound(world: Any) -> None:
    _, x, labels, after, sources = world
    assert guilty(x, labels, x[:EDITS], after, sources) == []


def test_a_mark_that_goes_with_the_class_and_that_edits_change_is_found(world: Any) -> None:
    rng, x, labels, after, sources = world
    there = (labels == 1) == (rng.uniform(size=N) < 0.9)
    marked = with_mark(x, there)
    toggled = after.copy()
    toggled[:, :3, :3] = np.where(sources[:, None, None, None] == 0, 1, x[:EDITS, :3, :3])
    assert guilty(marked, labels, marked[:EDITS], toggled, sources) == [CORNER]
    left = after.copy()
    left[:, :3, :3] = marked[:EDITS, :3, :3]
    assert guilty(marked, labels, marked[:EDITS], left, sources) == [], "edits that leave it alone do not use it"


def test_a_border_that_edits_change_and_that_says_nothing_of_the_class_is_an_artefact(world: Any) -> None:
    _, x, labels, after, sources = world
    after[:, :3, :3] += 0.4 * np.where(sources == 0, 1, -1)[:, None, None, None]
    assert guilty(x, labels, x[:EDITS], after, sources) == []


def test_brightness_is_found_where_it_goes_with_the_class_and_edits_shift_all_of_it(world: Any) -> None:
    _, x, labels, after, sources = world
    sign = np.where(labels == 0, -1, 1)[:, None, None, None]
    lit = x + 0.1 * sign
    shifted = lit[:EDITS] - 0.2 * sign[:EDITS]
    assert BRIGHTNESS in guilty(lit, labels, lit[:EDITS], shifted, sources)
    assert guilty(lit, labels, lit[:EDITS], after + 0.1 * sign[:EDITS], sources) == []


def test_figures_that_are_the_same_in_all_images_are_none(world: Any) -> None:
    """A black border; and as that is more than half of the image, its median."""
    _, x, labels, after, sources = world
    for part in (x, after):
        part[:, :4], part[:, -4:], part[:, :, :4], part[:, :, -4:] = 0, 0, 0, 0
    assert suspects(x, labels, x[:EDITS], after, sources) == []


def test_a_spot_that_shifts_the_median_a_little_is_not_the_brightness() -> None:
    """Without any noise of the light the median tells the classes apart, and edits of the spot move it all the way."""
    labels = np.arange(N) % 2
    y, x = np.mgrid[:SIZE, :SIZE]
    spot = 0.4 * np.exp(-((y - 12) ** 2 + (x - 12) ** 2) / 20)[None, :, :, None]
    plain = 0.4 + np.random.default_rng(0).normal(0, 0.005, (N, SIZE, SIZE, 1))
    sick = labels[:, None, None, None] == 1
    images, after = plain + spot * sick, plain + spot * ~sick
    found = suspects(images, labels, images[:EDITS], after[:EDITS], labels[:EDITS])
    median = next(one for one in found if one.name == BRIGHTNESS)
    assert median.goes_with_the_class(len(found)) and median.moved > 0.5 and not median.changed


def test_edits_that_flip_everything_about_give_few_false_alarms(world: Any) -> None:
    """The worst of edits: each becomes a random image of the other class. Nothing at the border goes with the class."""
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = np.arange(N) % 2
        x = images(rng, labels)
        alarms += bool(guilty(x, labels, x[:EDITS], images(rng, 1 - labels[:EDITS]), labels[:EDITS]))
    assert alarms <= 2


class Opened(NamedTuple):
    """As much of a `Context` as the check looks at."""

    s: Any
    stored: np.ndarray
    labels: np.ndarray
    path_rows: np.ndarray


@pytest.fixture
def said(world: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Line]]:
    """The lines of the check on marked images, of which the mark is toggled by the edits or left alone."""
    _, x, labels, after, sources = world

    def lines(toggles: bool, n: int = N, unguided: bool = False) -> list[Line]:
        marked, edited = with_mark(x, labels == 1), after.copy()
        there = (sources == 0) == toggles
        edited[:, :3, :3] = np.where(there[:, None, None, None], 1, x[:EDITS, :3, :3])
        stored, done = ((255 * part).astype(np.uint8) for part in (marked, edited))
        opened: Any = Opened(SimpleNamespace(unguided=unguided), stored[:n], labels[:n], np.arange(min(n, EDITS)))
        monkeypatch.setattr(check, "trial_edits", lambda context, trim: (context.path_rows, done[: min(n, EDITS)]))
        return check.confound(opened)

    return lines


def test_the_line_names_the_place_and_what_to_do(said: Callable[..., list[Line]]) -> None:
    (line,) = said(toggles=True)
    assert line.status == "warn" and line.figure.startswith(CORNER) and "cfdiff supervise" in line.advice
    assert line.values["auroc"] == 1 and line.values["moved"] == pytest.approx(1, abs=0.05)


def test_the_line_says_what_goes_with_the_class_and_is_left_alone(said: Callable[..., list[Line]]) -> None:
    (line,) = said(toggles=False)
    assert line.status == "ok" and "1 of 21 go with the class" in line.figure and CORNER in line.figure
    assert line.values["moved"] == pytest.approx(0, abs=0.01)


def test_few_images_get_no_verdict_and_no_guidance_no_line(said: Callable[..., list[Line]]) -> None:
    (line,) = said(toggles=True, n=14)
    assert line.status == "ok" and "give a larger --limit" in line.figure
    assert said(toggles=True, unguided=True) == []
