"""Words to a diffusion model that reads them: an edit by conditional difference, the guide cfg told two texts.

    eps_guided = eps + w (eps(x, l, c_to) - eps(x, l, c_from))

as of two classes (Ho & Salimans 2022, section 3.2; guides.CFG); with w = 0 the source comes back, bit for bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from cfdiff.edit.cast import Cast
from cfdiff.edit.roles import model_paths
from cfdiff.edit.settings import EditSettings
from cfdiff.edit.texts import check_texts, say_the_same
from cfdiff.models.checkpoint import diffusion_card
from cfdiff.models.prompted import Prompted, asked

S = TypeVar("S", bound=EditSettings)


def settled(s: S, data: str) -> S:
    """The settings where words are given: a diffusion model that reads them is led by them alone, unless --guides
    says more.

    Raises:
        UserError: words are given, and nobody reads them.
    """
    if s.texts == (None, None):
        return s
    path = model_paths(s, data, "diffusion")[0]
    reads = diffusion_card(path).condition == "tokens"  # type: ignore[arg-type]  # diffusion models are files
    if reads and "guides" not in s.model_fields_set:
        s = s.model_copy(update={"guides": "cfg"})
    check_texts(s, reads)
    return s


def told_words(cast: Cast, s: EditSettings, target: int) -> Cast:
    """The cast whose diffusion model stands for the words of the settings on the way to class `target`.

    Raises:
        UserError: they say what it does not know, or both the same.
    """
    to_text, from_text = s.texts
    if (to_text is None and from_text is None) or not cast.diffusion.reads or "cfg" not in s.guide_names:
        return cast
    texts = (from_text, to_text) if target == 1 else (to_text, from_text)
    model = asked(cast.diffusion, *texts)
    assert isinstance(model.net, Prompted)
    if not model.knows_classes:
        raise say_the_same(s)
    return replace(cast, diffusion=model)
