"""The guide that reads: how like an image is to a text, by an image-text model on the estimate x0_hat.

    g = grad s (<i(x0_hat), t_to> - <i(x0_hat), t_from>) / sqrt(ab_l)

(the CLIP guidance of Nichol et al. 2021, section 2.4, with a model of clean images, and away from what the image is, as
classifier-free guidance of translate is). Without t_from it is the likeness to t_to alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cfdiff.edit.cast import Cast
from cfdiff.edit.guides import GuideKind
from cfdiff.edit.settings import EditSettings
from cfdiff.engine import Guide, TweedieGuide
from cfdiff.errors import UserError
from cfdiff.models.encoders import NOTHING
from cfdiff.models.image_text import image_text, read_texts


def check_texts(s: EditSettings, reads: bool = False) -> None:
    """Raise UserError for texts that say nothing, or that neither a guide of the settings nor the diffusion model
    (`reads`) is told."""
    check_said(s)
    to_text, from_text = s.texts
    option = s.text_options
    given = option[0] if to_text is not None else option[1] if from_text is not None else None
    if given is None or "clip" in s.guide_names or (reads and "cfg" in s.guide_names):
        return
    if reads:
        raise UserError(
            f"{given} is told to the diffusion model by the guide cfg, and --guides {s.guides} has none: use "
            "--guides cfg, or noisy+clean+cfg, or leave --guides out."
        )
    raise UserError(
        f"{given} is read by the guide clip alone, as this diffusion model reads no words, and --guides {s.guides} has "
        "none: use --guides clip, or noisy+clean+clip, and name the image-text model with --image-text, or train a "
        "diffusion model with --condition text."
    )


def check_said(s: EditSettings) -> None:
    """Raise UserError for a text that says nothing; away from nothing, said as `NOTHING`, one may lead."""
    (to_text, from_text), option = s.texts, s.text_options
    if to_text is not None and to_text.strip() in ("", NOTHING):
        raise UserError(f"{option[0]} {to_text!r} says nothing: say in words what the image is to be.")
    if from_text is not None and not from_text.strip():
        raise UserError(f"{option[1]} is empty: say in words what the image is to be less of, or {NOTHING}.")


def say_the_same(s: EditSettings) -> UserError:
    """Of two texts that the settings give."""
    to_text, from_text = s.text_options
    return UserError(f"{to_text} and {from_text} say the same, so nothing would lead anywhere: give two texts.")


def _clip(cast: Cast, s: EditSettings) -> Guide:
    assert cast.image_text is not None, "edit.roles.check_guides says so"
    check_said(s)
    clip, (to_text, from_text) = image_text(cast.image_text), s.texts
    known = clip.class_texts
    if to_text is None and known is None:
        raise UserError(
            f"{cast.image_text.name!r} does not say what the classes are called: say with {s.text_options[0]} what "
            "the image is to be."
        )
    # One direction a class: towards its text, away from that of the other; a text that is given stands for both.
    to = [to_text or "", to_text or ""] if known is None or to_text is not None else list(known)
    away = None if known is None else [known[1], known[0]]
    if from_text is not None:
        away = None if from_text.strip() == NOTHING else [from_text, from_text]
    direction = read_texts(cast.image_text, to, s.text_options[0])
    if away is not None:
        direction = direction - read_texts(cast.image_text, away, s.text_options[1])
    if not direction.any():  # of one class alone it may be: where a text is that of the class which nobody asks for
        raise say_the_same(s)

    def likeness(z0: Tensor) -> Tensor:
        """(B, 2), of which the class asked for is taken."""
        with torch.autocast(z0.device.type, enabled=False):
            return clip.scale * clip.see(cast.space.decode(z0).float()) @ direction.T

    return TweedieGuide(cast.schedule, likeness, exact=s.exact, denoise=cast.denoise)


CLIP = GuideKind("image_text", _clip, backward=True)
"""The likeness to a text; without one, to what the image-text model calls the class."""
