"""An edit by words: the guide cfg of a diffusion model that stands for two texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wordy import reading

import cfdiff
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.roles import _check_needs, check_guides, load_role, model_paths
from cfdiff.edit.texts import check_texts
from cfdiff.edit.words import settled, told_words
from cfdiff.errors import UserError
from cfdiff.models.bundled import WEIGHTS
from cfdiff.settings import resolve
from cfdiff.translate.settings import TranslateSettings

CPU = torch.device("cpu")


def edited(cast: Cast, s: Any, images: np.ndarray, target: int) -> np.ndarray:
    ids = [f"cell/{i}" for i in range(len(images))]
    return Editor(told_words(cast, s, target), s).edit(images, ids, target).counterfactual


def settings(edit_settings: Callable[..., Any], **options: Any) -> Any:
    return edit_settings(guides="cfg", closed_loop=False, retries=0, smooth=(), trim=0, **options)


@pytest.mark.parametrize(("to", "away", "sign"), [("bright", "dark", 1), ("dark", "none", -1), ("dark", "bright", -1)])
def test_an_image_goes_to_what_the_words_say_whatever_the_class(
    exact_cast: Cast, exact_images: Any, edit_settings: Any, to: str, away: str, sign: int
) -> None:
    images = exact_images(4, 0 if sign > 0 else 1)
    for target in (0, 1):
        s = settings(edit_settings, to_text=to, from_text=away, w=2.0)
        moved = edited(reading(exact_cast), s, images, target).astype(int) - images
        assert (sign * moved[:, 1:4, 1:4].mean(axis=(1, 2, 3)) > 1).all()


def test_weight_0_is_the_source_byte_for_byte(exact_cast: Cast, exact_images: Any, edit_settings: Any) -> None:
    images = exact_images(3)
    for base in ("none", "source"):
        s = settings(edit_settings, to_text="bright", w=0.0, base=base)
        assert np.array_equal(edited(reading(exact_cast), s, images, 1), images)


def test_a_text_given_alone_leads_away_from_the_words_of_the_class(exact_cast: Cast, edit_settings: Any) -> None:
    cast, s = reading(exact_cast), settings(edit_settings, to_text="bright")
    assert told_words(cast, s, 1).diffusion.net.asked.tolist() == [[0], [1], [2]]
    with pytest.raises(UserError, match="say the same"):
        told_words(cast, s, 0)


def test_a_model_that_has_the_same_words_for_both_classes_is_led_by_texts_alone(
    exact_cast: Cast, edit_settings: Any
) -> None:
    cast = reading(exact_cast, ("none", "none"))
    with pytest.raises(UserError, match="same words for both: say in words"):
        check_guides(cast, settings(edit_settings))
    check_guides(reading(exact_cast), settings(edit_settings))
    s = settings(edit_settings, to_text="bright")
    check_guides(cast, s)
    check_guides(told_words(cast, s, 1), s)
    both = replace(exact_cast, diffusion=cast.diffusion)
    with pytest.raises(UserError, match="--base source tells the diffusion model a class, and .* knows none"):
        _check_needs(both, edit_settings(guides="both", base="source"))


def test_a_text_that_says_nothing_is_refused_and_away_from_nothing_one_may_lead(edit_settings: Any) -> None:
    for text in ("", " ", "none"):
        with pytest.raises(UserError, match=f"^--to-text '{text}' says nothing: say in words"):
            check_texts(edit_settings(guides="cfg", to_text=text), reads=True)
    with pytest.raises(UserError, match="^--from-text is empty.*, or none"):
        check_texts(edit_settings(guides="cfg", to_text="bright", from_text=""), reads=True)
    check_texts(edit_settings(guides="cfg", to_text="bright", from_text="none"), reads=True)


def test_words_that_nobody_reads_are_refused(edit_settings: Any) -> None:
    s = edit_settings(guides="both", to_text="bright")
    with pytest.raises(UserError, match="--to-text is told to the diffusion model by the guide cfg"):
        check_texts(s, reads=True)
    with pytest.raises(
        UserError, match="reads no words.*--image-text, or train a diffusion model with --condition text"
    ):
        check_texts(s)
    check_texts(edit_settings(guides="cfg", to_text="bright"), reads=True)


def test_the_config_of_the_edit_by_words_finds_its_model_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Path(cfdiff.__file__).parent.parent / "configs" / "malaria-cells" / "by-words.toml"
    s = resolve(TranslateSettings, config, {"to_text": "a parasitized cell"})
    assert settled(s, s.data).guides == "cfg" and load_role(model_paths(s, s.data, "diffusion")[0], "diffusion", CPU)


def test_a_model_that_reads_is_led_by_the_words_alone_unless_guides_are_named() -> None:
    told = {"to_text": "a parasitized cell", "diffusion": WEIGHTS / "malaria-cells" / "words.safetensors"}
    assert settled(TranslateSettings(**told), "malaria-cells").guides == "cfg"
    assert settled(TranslateSettings(**told, guides="noisy+cfg"), "malaria-cells").guides == "noisy+cfg"
    assert settled(TranslateSettings(), "malaria-cells").guides == "both"
    with pytest.raises(UserError, match="told to the diffusion model by the guide cfg"):
        settled(TranslateSettings(**told, guides="both"), "malaria-cells")
    with pytest.raises(UserError, match="reads no words"):
        settled(TranslateSettings(to_text="a parasitized cell"), "malaria-cells")
