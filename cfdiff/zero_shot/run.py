"""cfdiff zero-shot: the class by two texts, and retrieval between images and captions, beside what chance gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from cfdiff.data.attributes import describe
from cfdiff.data.captions import read_captions
from cfdiff.data.match import class_misfit, shape_misfit
from cfdiff.data.open import open_told
from cfdiff.data.source import Source, require_both_classes
from cfdiff.data.splitting import TEST, own_split
from cfdiff.data.values import to_model
from cfdiff.edit.roles import pick_device
from cfdiff.metrics.intervals import over
from cfdiff.metrics.retrieval import Rate, class_accuracy, images_to_texts, texts_to_images
from cfdiff.models.checkpoint import Model
from cfdiff.models.image_text import image_text, load_clip, read_texts
from cfdiff.progress import Progress
from cfdiff.train.clip import class_texts
from cfdiff.zero_shot.settings import ZeroShotSettings

PLACES = (1, 5)
"""Among how many of the most alike the right one is looked for."""


@dataclass(frozen=True)
class ZeroShot:
    """What was found.

    Attributes:
        model, data, split: names; the split is "all" where there is none.
        images, captions: how many, and how many different captions they have.
        groups: how many the intervals are over; None where they are over images. Those of text to image are over texts.
        known: groups among them that the model learned from.
        texts: what the negative and the positive class were called; None where nobody says.
        rates: "class", "image to text @1" and so on.
    """

    model: str
    data: str
    split: str
    images: int
    captions: int
    groups: int | None
    known: int
    texts: tuple[str, str] | None
    rates: dict[str, Rate]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)


def zero_shot(s: ZeroShotSettings, progress: Progress | None = None) -> ZeroShot:
    """Measure an image-text model; `progress` hears how far it is.

    Raises:
        UserError: model, data or captions cannot be used as asked, or do not fit one another.
    """
    if s.threads:
        torch.set_num_threads(s.threads)
    given = class_texts(s.texts)
    model = load_clip(s.model, pick_device(s.device))
    source, split, captions = _open(s)
    _check(model, source)
    clip, seen = image_text(model), []
    with torch.no_grad():
        for start in range(0, len(source), s.batch_size):
            rows = np.arange(start, min(start + s.batch_size, len(source)))
            seen.append(clip.see(to_model(source.read(rows)).to(model.device)))
            if progress is not None:
                progress("looking", int(rows[-1]) + 1, len(source))
    images = torch.cat(seen)
    rates: dict[str, Rate] = {}
    texts = given or clip.class_texts
    if texts is not None:
        require_both_classes(source)
        scores = images @ read_texts(model, texts, "--texts").T
        rates["class"] = class_accuracy(scores.cpu().numpy(), source.labels, source.groups)
    different, own = np.unique(captions, return_inverse=True)
    alike = (images @ read_texts(model, different.tolist(), "--captions").T).cpu().numpy()
    for k in PLACES:
        rates[f"image to text @{k}"] = images_to_texts(alike, own, k, source.groups)
    for k in PLACES:
        rates[f"text to image @{k}"] = texts_to_images(alike, own, k)
    groups = None if over(source.groups) == "images" else {str(g) for g in np.asarray(source.groups)}
    known = len((groups or set()) & set(map(str, model.card.data.get("groups") or [])))
    return ZeroShot(
        model.name,
        source.name,
        split,
        len(source),
        len(different),
        None if groups is None else len(groups),
        known,
        texts,
        rates,
    )


def _open(s: ZeroShotSettings) -> tuple[Source, str, list[str]]:
    """The images, the split's name, and a caption each; our own are made of all images, as for the training."""
    whole = open_told(s)
    split = s.split or own_split(whole, TEST)
    source = whole.narrow(split, limit=s.limit, seed=s.seed)
    if s.captions is not None:
        captions = read_captions(s.captions, source)
    else:
        captions = dict(zip(map(str, whole.ids), describe(whole, s.data)[0], strict=True))
    return source, split or "all", [captions[str(name)] for name in source.ids]


def _check(model: Model, source: Source) -> None:
    who = f"the image-text model {model.name!r}"
    misfit = shape_misfit(source.name, source.shape, who, model.takes(source.shape))
    misfit = misfit or class_misfit(source.name, source.classes, who, model.card.data.get("classes"))
    if misfit is not None:
        raise misfit.error
