"""What a training tells its diffusion network of each image: nothing, the class, its attributes, or its caption."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfdiff.data.attributes import class_names, describe, told_columns, words_for
from cfdiff.data.captions import read_attributes, read_captions
from cfdiff.data.open import open_told
from cfdiff.data.source import Source, require_both_classes
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import load_model
from cfdiff.models.encoders import NOTHING, Attributes, AttributesConfig
from cfdiff.models.image_text import image_text, load_clip
from cfdiff.models.prompted import Prompted
from cfdiff.models.text_encoder import TextEncoder, text_encoder_of
from cfdiff.models.unet import UNet
from cfdiff.train.batches import Batch
from cfdiff.train.clip import class_texts, shortened, usual_texts
from cfdiff.train.data import Also, Named, TrainingData
from cfdiff.train.loop import Learned
from cfdiff.train.settings import DiffusionSettings

OF_CONDITIONS = {
    "image_text": ("text",),
    "texts": ("text",),
    "columns": ("attributes",),
    "token_width": ("attributes",),
    "captions": ("attributes", "text"),
    "clauses": ("attributes", "text"),
    "drop": ("class", "attributes", "text"),
}
"""Settings that some conditions alone heed."""
SIDES = ("left", "right", "top", "bottom")


@dataclass(frozen=True)
class Telling:
    """What a network is told.

    Attributes:
        condition: as the card has it.
        data: what the training's folder is told that it learns from.
        of: of a batch, classes (b,) or codes (b, n) int64 on its device; None is nothing.
        validation: of the validation images, (N,) or (N, n); None is nothing.
        encoder: makes tokens of codes; None where there are none.
        texts: what the encoder is told of the negative and the positive class.
    """

    condition: str | None
    data: Learned
    of: Callable[[Batch], Tensor | None]
    validation: Tensor | None = None
    encoder: Any = None
    texts: tuple[str, str] = (NOTHING, NOTHING)

    @property
    def classes(self) -> int:
        """Of the U-Net."""
        return 2 if self.condition == "class" else 0

    @property
    def width(self) -> int:
        """Of a token; 0 for none."""
        return 0 if self.encoder is None else int(self.encoder.width)

    def network(self, net: UNet) -> nn.Module:
        """The whole network."""
        return net if self.encoder is None else Prompted(net, self.encoder, self.texts)

    def config(self, net: UNet) -> dict[str, Any]:
        """What a card says of it, which builds it again."""
        plain = net.config.model_dump(mode="json")
        if self.encoder is None:
            return plain
        return {"network": "unet-tokens", **plain, "encoder": self.config_of_encoder(), "texts": list(self.texts)}

    def config_of_encoder(self) -> dict[str, Any]:
        """Its name in registry.ENCODERS, and what it is made with."""
        name = "attributes" if isinstance(self.encoder, Attributes) else "text"
        return {"name": name, **self.encoder.config.model_dump(mode="json")}


def telling(s: DiffusionSettings, data: TrainingData) -> Telling:
    """What the settings say.

    Raises:
        UserError: the captions, the attributes or the encoder are not there or do not fit.
    """
    for option, conditions in OF_CONDITIONS.items():
        usual = DiffusionSettings.model_fields[option].default
        if getattr(s, option) != usual and s.condition not in conditions:
            raise UserError(
                f"--{option.replace('_', '-')} is of --condition {' or '.join(conditions)}, and this training has "
                f"--condition {s.condition}: give one of the two."
            )
    return TELLINGS[s.condition](s, data)


def _nothing(s: DiffusionSettings, data: TrainingData) -> Telling:
    return Telling(None, data, lambda batch: None)


def _class(s: DiffusionSettings, data: TrainingData) -> Telling:
    require_both_classes(data.train)
    labels = torch.from_numpy(data.validation.labels.astype("int64"))
    return Telling("class", data, lambda batch: batch.labels, labels)


def _attributes(s: DiffusionSettings, data: TrainingData) -> Telling:
    table = _table(s, data)
    names = told_columns(s.columns) or tuple(name for name, of in table.items() if len(set(of.values())) > 1)
    if not names:
        raise UserError("No column says anything of the images: name some with --columns.")
    names = tuple(sorted(set(names)))  # as a card gives them back: the place of a token hangs on their order
    known = {name: tuple(sorted({table[name][str(i)] for i in data.train.ids} - {""})) for name in names}
    if empty := [name for name in names if not known[name]]:
        raise UserError(f"The column {empty[0]!r} says nothing of the training images: leave it out of --columns.")
    encoder = Attributes(AttributesConfig(columns=known, width=s.token_width))

    def codes(source: Source) -> Tensor:
        return encoder.codes_of({name: [table[name][str(i)] for i in source.ids] for name in names})

    own = codes(data.train)
    _check_sides(s, [value for values in known.values() for value in values])

    def of(batch: Batch) -> Tensor:
        found = own[torch.from_numpy(batch.rows)].to(batch.images.device)
        return torch.where(batch.draws.uniform(len(names)) < s.clauses, 0, found) if s.clauses else found

    classes = known.get("class", ())
    negative, positive = (f"class={c}" if c in classes else NOTHING for c in data.train.classes)
    return Telling("tokens", _also(data, own), of, codes(data.validation), encoder, (negative, positive))


def _text(s: DiffusionSettings, data: TrainingData) -> Telling:
    encoder, called = _reader(s)
    captions = _captions(s, data)
    own = np.array([captions[str(i)] for i in data.train.ids], dtype=object)
    _check_sides(s, own.tolist())
    texts = class_texts(s.texts) or called or usual_texts(s.data, data.train)

    def of(batch: Batch) -> Tensor:
        return encoder.codes(shortened(own[batch.rows].tolist(), batch.draws, s.clauses)).to(batch.images.device)

    validation = encoder.codes([captions[str(i)] for i in data.validation.ids])
    return Telling("tokens", _also(data, encoder.codes(own.tolist())), of, validation, encoder, texts)


def _reader(s: DiffusionSettings) -> tuple[TextEncoder, tuple[str, str] | None]:
    """What reads the captions, and what it calls the classes: of --image-text, else of the model of --init."""
    if s.image_text is not None:
        clip = image_text(load_clip(s.image_text))
        return text_encoder_of(clip.reading, s.half is not False), clip.class_texts
    begun = None if s.init is None else load_model(s.init, "diffusion").net
    if isinstance(begun, Prompted) and isinstance(begun.encoder, TextEncoder):
        return begun.encoder, begun.texts
    raise UserError(
        "--condition text needs a text tower: make one (cfdiff train-clip) and name its file with --image-text, or "
        "begin from a model that reads texts (--init)."
    )


TELLINGS: dict[str, Callable[[DiffusionSettings, TrainingData], Telling]] = {
    "none": _nothing,
    "class": _class,
    "attributes": _attributes,
    "text": _text,
}


def _also(data: TrainingData, codes: Tensor) -> Also:
    """The data and what is said of it."""
    told = data.train.fingerprint.encode() + codes.numpy().tobytes()
    return Also(Named(data.train.name, hashlib.sha256(told).hexdigest()))


def _captions(s: DiffusionSettings, data: TrainingData) -> Mapping[str, str]:
    if s.captions is None:
        whole = open_told(s)
        return dict(zip(map(str, whole.ids), describe(whole, s.data)[0], strict=True))
    return {k: v for part in (data.train, data.validation) for k, v in read_captions(s.captions, part).items()}


def _table(s: DiffusionSettings, data: TrainingData) -> dict[str, dict[str, str]]:
    """Attribute -> id -> value, "" where nothing is said: of the captions or as measured, and of the columns of the
    data those that are named.

    Raises:
        UserError: a column that is named is none of either.
    """
    named = told_columns(s.columns) or ()
    table: dict[str, dict[str, str]] = {}
    if s.captions is not None:
        table = read_attributes(s.captions, [data.train, data.validation])
        if set(named) <= set(table):
            return table
    whole = open_told(s)
    ids = [str(name) for name in whole.ids]
    if s.captions is None:
        own = [name for name in named if name in whole.columns]
        found, where = describe(whole, s.data, columns=[*words_for(whole, s.data).columns, *own])[1], "measured"
    else:
        where = f"of {s.captions.name}"
        found = {name: whole.column(name) for name in named if name in whole.columns} | {"class": class_names(whole)}
    for name, values in found.items():
        table.setdefault(name, {i: str(value).strip() for i, value in zip(ids, values, strict=True)})
    if unknown := [name for name in named if name not in table]:
        others = [name for name in whole.columns if name not in table]
        raise UserError(
            f"--columns {unknown[0]} is not there: {where} are {', '.join(table)}, and columns of {whole.name} are "
            f"{', '.join(others) or 'none besides'}."
        )
    return table


def _check_sides(s: DiffusionSettings, said: Sequence[str]) -> None:
    """Raise UserError where images are to be turned of which it is said where something lies."""
    if s.augment == "none":
        return
    words = {word for text in set(said) for word in text.replace(",", " ").lower().split()}
    if side := next((side for side in SIDES if side in words), None):
        raise UserError(
            f"It is said of images what is at their {side}, and --augment {s.augment} would turn them: use "
            f"--augment none."
        )
