"""cfdiff train-clip: images and their captions in one space (Radford et al. 2021), small enough for one data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfdiff.data.attributes import describe, named, words_for
from cfdiff.data.captions import read_captions
from cfdiff.data.open import open_told
from cfdiff.data.source import Source
from cfdiff.data.values import to_model
from cfdiff.engine.contrastive import clip_loss
from cfdiff.errors import UserError
from cfdiff.metrics.retrieval import images_to_texts, texts_to_images
from cfdiff.models.bag_network import build_encoder
from cfdiff.models.checkpoint import Card
from cfdiff.models.classifier import ClassifierConfig, load_pretrained
from cfdiff.models.clip import Clip, ClipConfig
from cfdiff.models.text import learn_bpe, need, two_texts
from cfdiff.progress import Progress
from cfdiff.train.batches import Draws, Light, augment
from cfdiff.train.data import Named, TrainingData, open_training_data
from cfdiff.train.loop import Trainer
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import ClipSettings

CLAUSES = 16
"""Clauses of a caption that may be left out; more are never."""
AT_ONCE = 128


@dataclass(frozen=True)
class CaptionedData:
    """Images with a caption each; the fingerprint is of both."""

    images: TrainingData
    captions: dict[str, str]

    @property
    def train(self) -> Named:
        """What is trained on."""
        source = self.images.train
        told = "\n".join(f"{name}\t{self.captions[str(name)]}" for name in source.ids)
        text = f"{source.fingerprint}\n{told}".encode("utf-8", "surrogateescape")
        return Named(source.name, hashlib.sha256(text).hexdigest())

    def of(self, source: Source) -> list[str]:
        """The captions of a source's images, in its order."""
        return [self.captions[str(name)] for name in source.ids]


def train_clip(s: ClipSettings, progress: Progress | None = None) -> TrainResult:
    """Train (or continue) and write the model to `s.out`; `progress` hears of it in the place of the terminal.

    Raises:
        UserError: data, captions, model or folder cannot be used as asked.
    """
    need("transformers")
    texts = class_texts(s.texts)
    data = open_captions(s)
    train, validation = data.images.train, data.images.validation
    torch.manual_seed(s.seed)
    net = build(s, train, data.of(train), texts or usual_texts(s.data, train))
    taken = None if s.pretrained is None else load_pretrained(net.image, s.pretrained)
    trainer = Trainer(s, data, net, "clip", progress)
    trainer.say_pretrained(taken, net.image.net)
    batches, captions = trainer.batches(train), np.array(data.of(train), dtype=object)

    def loss(net: nn.Module, step: int, part: int) -> Tensor:
        batch = batches.read(step, part)
        x = augment(batch.images, batch.draws, s.augment, s.shift, Light(s.gain))
        told = shortened(captions[batch.rows].tolist(), batch.draws, s.clauses)
        number = torch.from_numpy(np.unique(told, return_inverse=True)[1]).to(x.device)
        seen, read, scale = net(x, words(told).to(x.device))
        return clip_loss(seen, read, scale, number[:, None] == number)

    words = net.words
    images = to_model(validation.read(range(len(validation)))).to(trainer.device)
    check = ClipValidation(images, validation.labels, data.of(validation))
    config = {"network": "clip", **net.config.model_dump(mode="json")}
    return trainer.run(loss, check, Card("clip", config, None, data.images.card, {}))


def open_captions(s: ClipSettings) -> CaptionedData:
    """Images and captions; where no file is named, captions that cfdiff makes of all images, whatever their split.

    Raises:
        UserError: the data or the captions cannot be read, or an image has none.
    """
    if s.captions is None:
        whole = open_told(s)
        captions = dict(zip(map(str, whole.ids), describe(whole, s.data)[0], strict=True))
        return CaptionedData(open_training_data(s), captions)
    images = open_training_data(s)
    parts = (images.train, images.validation)
    return CaptionedData(images, {k: v for part in parts for k, v in read_captions(s.captions, part).items()})


def class_texts(given: str | None) -> tuple[str, str] | None:
    """`--texts 'NEGATIVE|POSITIVE'` as two texts; UserError where it is not two, or one twice."""
    if given is None:
        return None
    parts = [part.strip() for part in given.split("|")]
    if len(parts) != 2 or not all(parts):
        raise UserError(
            f"--texts {given!r} is not two texts: write 'NEGATIVE|POSITIVE', as 'a healthy cell|a sick cell'."
        )
    return two_texts(parts[0], parts[1], f"--texts {given!r}")


def usual_texts(data: str, source: Source) -> tuple[str, str]:
    """What the two classes are called where nothing is said: the first clause of our own captions."""
    noun = words_for(source, data).noun
    return named(source.classes[0], noun), named(source.classes[1], noun)


def build(s: ClipSettings, source: Source, captions: Sequence[str], texts: tuple[str, str]) -> Clip:
    """A new model for these images, with a tokenizer learned from these captions.

    Raises:
        UserError: timm has no such image tower, or the text tower cannot be built so.
    """
    height, width, channels = source.shape
    image, features = build_encoder(
        ClassifierConfig(
            arch=s.arch,
            kwargs=s.kwargs,
            channels=channels,
            size=(height, width),
            upsample=s.upsample,
            downsample=s.downsample,
        )
    )
    if s.text_width % s.text_heads:
        raise UserError(
            f"--text-width {s.text_width} cannot be cut into {s.text_heads} heads: give a multiple of --text-heads."
        )
    return Clip(
        ClipConfig(
            image=image.config,
            features=features,
            tokenizer=learn_bpe(captions, s.vocabulary),
            joint=s.joint,
            width=s.text_width,
            layers=s.text_layers,
            heads=s.text_heads,
            length=s.length,
            texts=texts,
        )
    )


def shortened(captions: Sequence[str], draws: Draws, share: float) -> list[str]:
    """Captions without a random share of their clauses (parts between commas); the first clause always stays."""
    if not share:
        return list(captions)
    keep = (draws.uniform(CLAUSES) >= share).cpu().tolist()
    said = []
    for caption, coins in zip(captions, keep, strict=True):
        first, *others = caption.split(",")
        kept = [clause for i, clause in enumerate(others) if i >= CLAUSES or coins[i]]
        said.append(",".join([first, *kept]))
    return said


class ClipValidation:
    """What is measured at each validation: retrieval both ways and the zero-shot class, on a share where time is short.

    Images (N, C, H, W) in [-1, 1] are on the network's device.
    """

    def __init__(self, images: Tensor, labels: np.ndarray, captions: Sequence[str]) -> None:
        self.images, self.labels, self.captions = images, labels, list(captions)

    @torch.no_grad()
    def __call__(self, net: nn.Module, step: int, share: float) -> dict[str, Any]:
        """The figures of `TrainResult`; `val_loss` is CLIP's of all images as one batch, so batches do not matter."""
        assert isinstance(net, Clip)
        n = self.passes(share)
        rows = np.linspace(0, len(self.images) - 1, n).round().astype(int)
        seen = torch.cat([net.see(x) for x in self.images[torch.from_numpy(rows)].split(AT_ONCE)])
        different, own = np.unique([self.captions[row] for row in rows], return_inverse=True)
        texts = net.read(different.tolist())
        number = torch.from_numpy(own).to(seen.device)
        alike = (seen @ texts.T).cpu().numpy()
        to_text, to_image = images_to_texts(alike, own, 1), texts_to_images(alike, own, 1)
        figures: dict[str, Any] = {
            "val_loss": float(clip_loss(seen, texts[number], net.scale, number[:, None] == number)),
            "val_image_to_text": to_text.value,
            "val_text_to_image": to_image.value,
            "val_chance_to_text": to_text.chance,
            "val_chance_to_image": to_image.chance,
        }
        labels = self.labels[rows]
        if net.class_texts is not None and {0, 1} <= set(labels.tolist()):
            positive = (seen @ net.read(net.class_texts).T).argmax(1).cpu().numpy() == 1
            figures["val_accuracy"] = float(np.mean([(positive == k)[labels == k].mean() for k in (0, 1)]))
        return figures if share >= 1 else {**figures, "val_images": n}

    def passes(self, share: float) -> int:
        """Images through the network."""
        return min(len(self.images), max(2, int(share * len(self.images))))
