"""The latent space of an autoencoder, whose file lies beside every model that runs there.

Diffusion and guidance run on z = E(x), and the saved image is x + D(z') - D(z). A model's card names its autoencoder by
its sha256; the file is looked for where a weights folder or a training has it, so that copying the folder is enough,
and models that share a folder share the file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfdiff.errors import UserError
from cfdiff.files import atomic
from cfdiff.models.autoencoder import Autoencoder, check_size, is_folder, load_folder, sha256_of
from cfdiff.models.checkpoint import load_model
from cfdiff.models.space import reduced, saved_by_difference

NAME = "autoencoder"
PIXELS = 1 << 19
"""Pixels that pass through the autoencoder at once where no gradient is asked for: 32 images of 128 px, 2 of 512."""


class LatentSpace:
    """A `Space` (space.FileSpace); it goes where its tensors are.

    Attributes:
        told: what a card says of it besides its name.
        file: the autoencoder's file, or its folder of diffusers.
    """

    discrete = False

    def __init__(self, net: Autoencoder, told: dict[str, Any], file: Path) -> None:
        self.net, self.told, self.file = net, told, file

    @classmethod
    def of(cls, file: Path | None) -> LatentSpace:
        """The space of an autoencoder, for a training.

        Raises:
            UserError: none is given, or it cannot be read.
        """
        if file is None:
            raise UserError(
                "--space latent needs an autoencoder: make one (cfdiff train-autoencoder) and name it with "
                "--autoencoder."
            )
        return cls(load_autoencoder(file), {"autoencoder": sha256_of(file)}, file)

    @classmethod
    def beside(cls, model: Path, autoencoder: str | None = None) -> LatentSpace:
        """The space of a model, whose autoencoder, of that sha256, lies beside its file.

        Raises:
            UserError: there is none, or another one.
        """
        there = list(places(model))
        file = next((path for path in there if autoencoder in (None, sha256_of(path))), None)
        if file is None:
            known = f" (sha256 {autoencoder[:12]}…)" if autoencoder else ""
            fault = f"only another one lies there, {there[0].name!r}" if there else "none lies beside it"
            raise UserError(
                f"The model {model.name!r} runs in the latents of an autoencoder{known}, and {fault}: copy "
                f"{NAME}.safetensors from where it was trained to {str(model.parent)!r}."
            )
        return cls.of(file)

    def put_beside(self, model: Path, replace: bool = False) -> None:
        """Copy the autoencoder to where a model will look for it, unless it is there.

        Raises:
            UserError: another one is there, and may not be replaced.
        """
        there = list(places(model))
        if any(sha256_of(path) == self.told["autoencoder"] for path in there):
            return
        target = model.parent / (NAME if self.file.is_dir() else f"{NAME}.safetensors")
        if any(path.parent == model.parent for path in there) and not replace:
            raise UserError(
                f"{model.parent} holds a training in the latents of another autoencoder: give that one, another --out, "
                "or --force to start anew."
            )
        files = [path for path in self.file.iterdir() if path.is_file()] if self.file.is_dir() else [self.file]
        for file in files:
            out = target / file.name if self.file.is_dir() else target
            out.parent.mkdir(exist_ok=True)
            with atomic(out) as scratch:
                shutil.copyfile(file, scratch)

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """(c, h, w) of an image's latents.

        Raises:
            UserError: the autoencoder takes no such images.
        """
        if channels != self.net.channels:
            raise UserError(
                f"The autoencoder {self.file.name!r} takes images of {self.net.channels} channels, and these have "
                f"{channels}: give another one, or convert the images (cfdiff data convert)."
            )
        check_size((height, width), self.net.factor)
        return self.net.latent, height // self.net.factor, width // self.net.factor

    def encode(self, x: Tensor) -> Tensor:
        return self._pieces(self.net.encode, x, x.shape[-2] * x.shape[-1])

    def decode(self, z: Tensor) -> Tensor:
        return self._pieces(self.net.decode, z, z.shape[-2] * z.shape[-1] * self.net.factor**2)

    def saved(self, x: Tensor, z: Tensor, edited: Tensor, drawn: Tensor | None = None) -> Tensor:
        return saved_by_difference(self, x, z, edited, drawn)

    def mask(self, mask: Tensor) -> Tensor:
        return reduced(mask, self.net.factor)

    def _pieces(self, f: Callable[[Tensor], Tensor], x: Tensor, pixels: int) -> Tensor:
        """f(x), in pieces where memory would be the limit; with a gradient at once, as it is kept for all anyway."""
        if self.net.shift.device != x.device:
            self.net.to(x.device)
        if x.requires_grad and torch.is_grad_enabled():
            return f(x)
        with torch.no_grad():
            return torch.cat([f(part) for part in x.split(max(1, PIXELS // pixels))])


def load_autoencoder(path: Path) -> Autoencoder:
    """Of a file of cfdiff train-autoencoder, or of a folder of diffusers.

    Raises:
        UserError: it is neither, or its training was stopped before its latents were measured.
    """
    if path.is_dir():
        return load_folder(path)
    model = load_model(path, "autoencoder")
    assert isinstance(model.net, Autoencoder)
    if "latents" not in model.card.training:
        raise UserError(
            f"The autoencoder {path.name!r} was stopped before its first validation, so nothing is known of its "
            "latents: let its training go on."
        )
    return model.net


def places(model: Path) -> Iterator[Path]:
    """The autoencoders that lie beside a model's file or folder, nearest first.

    A weights folder has `autoencoder.safetensors` or `autoencoder/model.safetensors` among its models, as fit writes
    them; a pipeline of diffusers has `vae/`.
    """
    whole = model.is_dir() or model.name == "model.safetensors"  # then its folder is one of the roles of a larger one
    inside = [model] if model.is_dir() else []
    for folder in (*inside, model.parent, *([model.parent.parent] if whole and not model.is_dir() else [])):
        for path in (folder / f"{NAME}.safetensors", folder / NAME / "model.safetensors"):
            if path.is_file():
                yield path
        yield from filter(is_folder, (folder / NAME, folder / "vae"))
