"""Image-text models in a run: opening one, and the classifier that two texts make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.bundled import named
from cfdiff.models.checkpoint import Model, load_model
from cfdiff.models.clip import ImageText
from cfdiff.registry import CLIPS


class OwnClips:
    """The entry of registry.CLIPS for our own files."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether it is no folder: what is wrong with a file, `load_model` says."""
        return not path.is_dir()

    @staticmethod
    def load(path: Path, device: str | torch.device) -> Model:
        """See `load_model`."""
        return load_model(path, "clip", device)


def load_clip(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """The image-text model of a file or folder, by the first of registry.CLIPS that knows it.

    Raises:
        UserError: it is missing or unreadable, of another kind, or needs a package that is not there.
    """
    path = named(Path(path))
    for name in CLIPS:
        if CLIPS[name].recognises(path):
            found: Model = CLIPS[name].load(path, device)
            return found
    raise UserError(
        f"The folder {path.name!r} holds no image-text model: give a .safetensors file of cfdiff train-clip, or the "
        "folder of a CLIP model of transformers (config.json, model.safetensors and its tokenizer)."
    )


def image_text(model: Model) -> ImageText:
    """The network of a model of `load_clip`, as what it can do."""
    return cast(ImageText, model.net)


@torch.no_grad()
def read_texts(model: Model, texts: Sequence[str], option: str) -> Tensor:
    """Embeddings (B, d) of texts, of unit length; UserError for an empty one, with the name of its option."""
    if any(not text.strip() for text in texts):
        raise UserError(f"{option} is empty: say in words what the image is to be.")
    return image_text(model).read(texts)


class TextClassifier(nn.Module):
    """Logits (B, 2) = s <i, t_k> of images (B, C, H, W) in [-1, 1]: zero-shot (Radford et al. 2021, section 3.1)."""

    texts: Tensor

    def __init__(self, net: nn.Module, texts: Tensor, described: dict[str, Any] | None = None) -> None:
        """`texts` (2, d) are the embeddings of the negative's and the positive's text; `described` is what a result
        stores of a model whose own file does not say them."""
        super().__init__()
        self.net, self.described = net, described
        self.config: Any = net.config
        self.register_buffer("texts", texts, persistent=False)

    def takes(self, images: tuple[int, int, int]) -> tuple[int, int, int]:
        """What the image tower takes: `images` (H, W, C) themselves where it resizes."""
        fits = getattr(self.net, "takes", None)
        found: tuple[int, int, int] = (*self.config.size, self.config.channels) if fits is None else fits(images)
        return found

    def forward(self, x: Tensor) -> Tensor:
        clip = cast(ImageText, self.net)
        return clip.scale * clip.see(x) @ self.texts.T


def as_classifier_of_texts(model: Model, texts: tuple[str, str] | None = None, described: bool = False) -> Model:
    """An image-text model as a clean classifier: which of two texts an image is nearer to.

    Args:
        texts: of the negative and the positive class; None for those that the model itself gives.
        described: whether they are said beside the model, so that a result is to store them.

    Raises:
        UserError: there are none.
    """
    texts = texts or image_text(model).class_texts
    if texts is None:
        raise UserError(
            f"{model.name} does not say what the two classes are called: train one that does (cfdiff train-clip "
            "--texts 'NEGATIVE|POSITIVE')."
        )
    told = {"name": model.name, "kind": model.card.config.get("arch"), "texts": list(texts)} if described else None
    net = TextClassifier(model.net, read_texts(model, texts, "--texts"), told)
    card = replace(model.card, kind="clean-classifier", config={"network": "clip", "texts": list(texts)})
    return replace(model, net=net.eval(), card=card)
