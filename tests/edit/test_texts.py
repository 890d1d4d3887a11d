"""The guide clip: the likeness to a text leads an edit, with a reader whose likeness is known in closed form."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.guides import GuideKind
from cfdiff.edit.roles import check_guides
from cfdiff.edit.texts import CLIP, check_texts
from cfdiff.engine.process import x0_from_eps
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, Model
from cfdiff.registry import GUIDES

Images = Callable[..., np.ndarray]
Settings = Callable[..., Any]
SCALE = 5.0


@dataclass(frozen=True)
class Config:
    size: tuple[int, int] = (8, 8)
    channels: int = 1


class Reader(nn.Module):
    """i(x) = (sin, cos) of the mean of the spot's pixels; texts name an angle: a model of two dimensions."""

    ANGLES = {"bright": 1.0, "dark": -1.0, "middle": 0.2}

    def __init__(self, class_texts: tuple[str, str] | None = ("dark", "bright")) -> None:
        super().__init__()
        self.class_texts, self.config = class_texts, Config()
        self.register_buffer("scale", torch.tensor(SCALE))

    def see(self, x: Tensor) -> Tensor:
        angle = x[:, 0, 1:4, 1:4].mean((1, 2))
        return F.normalize(torch.stack([angle.sin(), angle.cos()], 1), dim=1)

    def read(self, texts: Sequence[str]) -> Tensor:
        angle = torch.tensor([self.ANGLES[text] for text in texts])
        return torch.stack([angle.sin(), angle.cos()], 1)


def reading(cast: Cast, **options: Any) -> Cast:
    """The cast with such a reader, and nobody else who steers."""
    model = Model(Reader(**options), Card("clip", {}, None, {}, {}), "0" * 64, "reader")
    return replace(cast, guide=None, checker=None, image_text=model)


def names(n: int) -> list[str]:
    return [f"cell/{i}.png" for i in range(n)]


def guide(cast: Cast, s: Any) -> Any:
    kind: GuideKind = GUIDES["clip"]
    return kind.make(cast, s)


@pytest.mark.parametrize(
    ("texts", "to", "away"),
    [
        ({"to_text": "bright", "from_text": "none"}, "bright", None),
        ({"to_text": "bright", "from_text": "middle"}, "bright", "middle"),
        ({"to_text": "middle"}, "middle", "dark"),
        ({}, "bright", "dark"),
    ],
    ids=str,
)
def test_the_gradient_is_that_of_the_likeness_at_the_estimate(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, texts: dict[str, str], to: str, away: str | None
) -> None:
    """d/dx of s (cos(a - to) - cos(a - away)) with a the mean of nine pixels, over sqrt(ab_l)."""
    cast, x, level = reading(exact_cast), to_model(exact_images(3)), 30
    eps = cast.denoise(x, level)
    x0_hat = x0_from_eps(cast.schedule, x, level, eps)
    target = torch.ones(3, dtype=torch.int64)
    found = guide(cast, edit_settings(guides="clip", **texts)).gradient(x, level, eps, x0_hat, target)
    angle = x0_hat[:, 0, 1:4, 1:4].mean((1, 2))
    slope = -(angle - Reader.ANGLES[to]).sin()
    if away is not None:
        slope = slope + (angle - Reader.ANGLES[away]).sin()
    wanted = torch.zeros_like(x)
    wanted[:, 0, 1:4, 1:4] = (SCALE * slope / 9 / cast.schedule.signal_noise(level, x)[0])[:, None, None]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("text", "sign"), [("bright", 1), ("dark", -1)])
def test_an_image_goes_where_the_text_says(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, text: str, sign: int
) -> None:
    images = exact_images(4, 0 if sign > 0 else 1)
    s = edit_settings(guides="clip", to_text=text, closed_loop=False)
    edits = Editor(reading(exact_cast), s).edit(images, names(4), int(sign > 0))
    moved = (edits.counterfactual.astype(int) - images)[:, 1:4, 1:4].mean(axis=(1, 2, 3))
    assert (sign * moved > 1).all()


def test_without_guidance_the_source_comes_back_byte_for_byte(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images = exact_images(3)
    s = edit_settings(guides="clip", to_text="bright", scale=0.0)
    assert Editor(reading(exact_cast), s).edit(images, names(3), 1).counterfactual.tobytes() == images.tobytes()


def test_texts_that_lead_nowhere_are_refused(exact_cast: Cast, edit_settings: Settings) -> None:
    cases = [
        ({"to_text": "bright", "from_text": "bright"}, {}, "say the same"),
        ({"to_text": " "}, {}, "--to-text ' ' says nothing"),
        ({"to_text": "bright", "from_text": ""}, {}, "--from-text is empty"),
        ({}, {"class_texts": None}, "'reader' does not say what the classes are called: say with --to-text"),
    ]
    for texts, options, words in cases:
        with pytest.raises(UserError, match=words):
            guide(reading(exact_cast, **options), edit_settings(guides="clip", **texts))
    guide(reading(exact_cast, class_texts=None), edit_settings(guides="clip", to_text="bright"))


def test_a_text_that_nobody_reads_is_refused(exact_cast: Cast, edit_settings: Settings) -> None:
    with pytest.raises(UserError, match="--to-text is read by the guide clip alone.*and --guides both has none"):
        check_texts(edit_settings(to_text="bright"))
    with pytest.raises(UserError, match="--from-text is read by"):
        check_texts(edit_settings(from_text="bright", guides="clean"))
    with pytest.raises(UserError, match="needs an image-text model: name one with --image-text, or use --guides noisy"):
        check_guides(exact_cast, edit_settings(guides="clip", to_text="bright"))


def test_it_is_a_guide_of_single_images_that_costs_a_pass_only_with_exact(edit_settings: Settings) -> None:
    assert CLIP.role == "image_text" and CLIP.joint is None
    assert [CLIP.calls_a_gradient(edit_settings(exact=exact)) for exact in (False, True)] == [0, 1]


def test_translate_by_a_text_from_a_folder_to_a_result(toy: Any, tmp_path: Path) -> None:
    import clips
    from PIL import Image

    from cfdiff.figures.panel import _LINE, _TITLE
    from cfdiff.figures.settings import ShowSettings
    from cfdiff.figures.show import show
    from cfdiff.store import open_result
    from cfdiff.translate.run import translate

    folder = clips.save_folder(tmp_path / "folder")
    out = tmp_path / "run.h5"
    given = {"limit": 3, "retries": 0, "steps": 3, "image_text": folder, "guides": "clip", "to_text": "a sick cell"}
    found = translate(toy.settings(out, **given, preview=tmp_path / "told.png"))
    assert found.rows()[1] == ("told", "'a sick cell'") and found.as_json()["told"] == "'a sick cell'"
    show(ShowSettings(run=out, out=tmp_path / "untitled.png", title=False))
    heights = [Image.open(tmp_path / name).height for name in ("told.png", "untitled.png")]
    assert heights[0] - heights[1] == pytest.approx(300 * (_TITLE + _LINE), abs=2), "two lines above the images"
    with open_result(out) as result:
        assert result.settings["to_text"] == "a sick cell" and result.settings["guides"] == "clip"
        assert "image_text" not in result.settings, "no path in a result"
        assert result.told == "'a sick cell'" and result.attrs["direction"] == "negative (healthy) -> positive (sick)"
        assert (result["counterfactual"][:] != result["source"][:]).any()
    with h5py.File(out) as file:
        assert {"diffusion", "image_text"} <= set(json.loads(file.attrs["models"]))
