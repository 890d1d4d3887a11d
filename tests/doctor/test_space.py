"""What an autoencoder loses, with one whose loss is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cfdiff.data.values import to_model
from cfdiff.doctor.space import autoencoder


class Bright:
    """Says how bright an image is: positive above gray."""

    def logits(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([-mean, mean], 1)


def context(decode: Any, judged: bool = True) -> Any:
    """Eight images of one gray each, from 40 to 215, and a space that reads them back with `decode`."""
    stored = np.repeat(np.linspace(40, 215, 8).round().astype(np.uint8), 256).reshape(8, 16, 16, 1)
    x0 = to_model(stored)
    fitting = {"checker": Bright()} if judged else {}
    cast = SimpleNamespace(space=SimpleNamespace(decode=decode))
    return SimpleNamespace(cast=cast, x0=x0, z0=x0, stored=stored, fitting=fitting, batches=lambda f, x: f(x))


def test_pixels_lose_nothing_and_say_nothing() -> None:
    assert autoencoder(context(lambda z: z)) == []


@pytest.mark.parametrize(("shift", "status", "kept"), [(2 / 255, "ok", 1.0), (0.2, "warn", 0.875), (2.0, "warn", 0.5)])
def test_what_is_lost_and_whose_class_changes_is_counted(shift: float, status: str, kept: float) -> None:
    (line,) = autoencoder(context(lambda z: (z + shift).clamp(-1, 1)))
    assert (line.status, line.values["verdicts_kept"]) == (status, kept)
    if shift < 1:  # then nothing is cut off
        steps = round(shift / 2 * 255) / 255  # a saved image has whole values
        assert line.values["psnr"] == pytest.approx(-20 * np.log10(steps), abs=0.3)
    assert "the checker sees" in line.figure


def test_without_a_classifier_the_picture_alone_decides() -> None:
    (line,) = autoencoder(context(lambda z: z + 2 / 255, judged=False))
    assert line.status == "ok" and set(line.values) == {"psnr", "ssim"}
