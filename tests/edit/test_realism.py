from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.realism import Realism
from cfdiff.edit.strategy import Batch

Images = Callable[..., np.ndarray]
Settings = Callable[..., Any]


def batch_of(images: np.ndarray) -> Batch:
    x = to_model(images)
    return Batch(images, x, x, x, [f"i{k}" for k in range(len(images))], torch.ones(len(images)).long())


def test_noise_is_harder_to_denoise_than_its_source_and_an_image_is_not(exact_cast: Cast, exact_images: Images) -> None:
    images = exact_images(6)
    realism = Realism(exact_cast, 0, batch_of(images))
    rows = np.array([1, 3, 4])
    assert realism.ratio(rows, images[rows]) == pytest.approx(np.ones(3)), "the source itself"
    others = exact_images(6, label=1)[rows]
    noise = np.random.default_rng(0).integers(0, 2, others.shape).astype(others.dtype) * 255
    assert (realism.ratio(rows, others) < 2).all()
    assert (realism.ratio(rows, noise) > 2).all()
    assert realism.calls.tolist() == [0, 4, 0, 4, 4, 0], "the sources once, the edits each time"


def test_it_depends_on_no_other_image_of_the_batch(exact_cast: Cast, exact_images: Images) -> None:
    images, edits = exact_images(4), exact_images(4, label=1)
    together = Realism(exact_cast, 0, batch_of(images)).ratio(np.arange(4), edits)
    alone = [Realism(exact_cast, 0, batch_of(images)).ratio(np.array([k]), edits[[k]])[0] for k in range(4)]
    assert together == pytest.approx(alone, rel=1e-5)


@pytest.fixture
def tried(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., np.ndarray]:
    """(4,) the strengths that are kept of a ladder from .06 on, whose later tries are so much harder to denoise; the
    last image flips at .135, the others do not at all, though they come closer at each rung."""

    def of(harder: float, **more: Any) -> np.ndarray:
        monkeypatch.setattr(Realism, "ratio", lambda self, rows, saved: np.full(len(rows), harder))
        options: dict[str, Any] = {"retries": 3, "ratio": 0.06, "scale": 5.0, "accept": 0.95, "target": 0.95, **more}
        found = Editor(exact_cast, edit_settings(**options)).edit(exact_images(4), [f"i{k}" for k in range(4)], 1)
        return found.ratio

    return of


def test_a_later_try_that_is_no_image_any_more_is_not_kept(tried: Callable[..., np.ndarray]) -> None:
    """Whatever convinces after the first try, the first is kept: it alone is not looked at."""
    assert tried(4.5) == pytest.approx([0.06] * 4)
    assert tried(4.5, realism=5.0) == pytest.approx([0.06, 0.06, 0.06, 0.135]), "the same ladder otherwise goes on"
    assert tried(4.5, realism=0.0) == pytest.approx([0.135] * 4), "nothing is asked"


def test_a_try_in_vain_is_kept_only_while_it_is_an_image_like_any_other(tried: Callable[..., np.ndarray]) -> None:
    """What flips may be stranger than what is merely the closest of all that did not."""
    assert tried(1.4) == pytest.approx([0.135] * 4)
    assert tried(2.0) == pytest.approx([0.06, 0.06, 0.06, 0.135])
