"""Model files: safetensors with everything that builds and describes the model inside.

The metadata of the file holds `format`, `kind` (one of `KINDS`), the network's config,
the noise schedule, the data it was trained on and how. Pickles are refused: opening one can run any code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cfdiff.engine.process import PARAMETRISATIONS, Parametrisation
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.engine.tiles import Tiles
from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json
from cfdiff.models.bundled import named
from cfdiff.models.classifier import BUILD_ERRORS, refuse_pickle
from cfdiff.models.denoiser import Denoiser
from cfdiff.models.encoded import EncodedClassifier
from cfdiff.models.space import Space
from cfdiff.models.tiled import most_positive
from cfdiff.registry import DENOISERS, NETWORKS, SPACES
from cfdiff.version import __version__

FORMAT = "cfdiff-model-1"
OWN = {
    "diffusion": "unet",
    "noisy-classifier": "timm",
    "clean-classifier": "timm",
    "autoencoder": "autoencoder",
    "bag-classifier": "bag",
    "clip": "clip",
    "control": "control",
}
"""The network of each kind, in registry.NETWORKS, where the config of a card names none."""
KINDS = tuple(OWN)
PIXELS = {"name": "pixel"}
CONDITIONS = (None, "class", "tokens")
"""What a diffusion network may be told: nothing, the class, by its place in the card's `data.classes`, or words."""


@dataclass(frozen=True)
class Card:
    """What a model file says of itself.

    Attributes:
        kind: one of `KINDS`.
        config: what builds the network: `network`, a name of registry.NETWORKS, where it is none of our own two, and
            what that is made with.
        schedule: what builds its noise schedule; None for a clean classifier.
        data: name, fingerprint, split, val_split, images, classes and groups (patients) it learned from.
        training: settings, steps, minutes, the last validation.
        version: of cfdiff, when it was made.
        parametrisation: what a diffusion network's output is: eps, x0, mu or v.
        learned_sigma: whether its output has a variance in the second half of its channels.
        space: where a diffusion model or its guide runs: a name of registry.SPACES and what it is made with; None is
            pixels.
        image: (H, W, C) of the images, where the network does not see those themselves.
        condition: what a diffusion network may be told, one of `CONDITIONS`.
        told_nothing: whether one that may be told something may also be told nothing.
    """

    kind: str
    config: dict[str, Any]
    schedule: dict[str, Any] | None
    data: dict[str, Any]
    training: dict[str, Any]
    version: str = __version__
    parametrisation: str = "eps"
    learned_sigma: bool = False
    space: dict[str, Any] | None = None
    image: list[int] | None = None
    condition: str | None = None
    told_nothing: bool = True


@dataclass(frozen=True)
class Model:
    """A network in eval mode with its card, the sha256 of its file, a name for messages, and where it lies.

    Attributes:
        tiles: how images are cut that are larger than it takes; None where they are not.
    """

    net: nn.Module
    card: Card
    sha256: str
    name: str
    path: Path | None = None
    tiles: Tiles | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images it takes."""
        if self.card.image is not None:
            height, width, channels = self.card.image
            return height, width, channels
        config: Any = self.net.config
        return (config.size[0], config.size[1], config.channels)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(chain(self.net.parameters(), self.net.buffers())).device

    def takes(self, images: tuple[int, int, int]) -> tuple[int, int, int]:
        """`images` (H, W, C) themselves where it takes such, whole or by its tiles; else what it takes. A described
        classifier resizes."""
        seen = images if self.tiles is None else self.tiles.shape(images)
        fits = getattr(self.net, "takes", None)
        found: tuple[int, int, int] = self.shape if fits is None else fits(seen)
        return images if found == seen else found

    def logits(self, x0: Tensor) -> Tensor:
        """(B, K) of a clean classifier for images (B, C, H, W) in [-1, 1], of larger ones by their tiles."""
        found: Tensor = self.net(x0) if self.tiles is None else most_positive(self.net, x0, self.tiles)
        return found

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that it was trained on."""
        return NoiseSchedule.from_config(self.card.schedule or {})

    def denoiser(self, dtype: torch.dtype | None = None) -> Denoiser:
        """A diffusion model as the engine asks it, its network under autocast to `dtype`."""
        card = self.card
        return Denoiser(
            self.net,
            self.schedule,
            _parametrisation(card),
            card.learned_sigma,
            dtype=dtype,
            conditional=self.conditional,
            told_nothing=card.told_nothing,
        )

    @property
    def conditional(self) -> bool:
        """Whether a diffusion model may be told something: 0 negative, 1 positive, as its card orders the classes, or
        what their words are."""
        if self.card.condition not in CONDITIONS:
            raise UserError(f"{self.name} is told {self.card.condition!r}, which this cfdiff does not know: update it.")
        return self.card.condition is not None

    @property
    def reads(self) -> bool:
        """Whether a diffusion model may be told words (`prompted.asked`)."""
        return self.card.condition == "tokens"

    @property
    def knows_classes(self) -> bool:
        """Whether being told the one class is another thing to a diffusion model than being told the other: of one
        that reads words, the classes may both be called nothing."""
        asked = getattr(self.net, "asked", None) if self.reads else None  # of a `prompted.Prompted` itself
        return self.conditional and (asked is None or not torch.equal(asked[0], asked[1]))

    @cached_property
    def space(self) -> Space:
        """Where a diffusion model, or its guide, runs."""
        return space_of(self.card.space, self.name, self.path)


def space_of(told: dict[str, Any] | None, where: str, path: Path | None = None) -> Space:
    """The space that a card names; UserError for one that is not known here, or whose file is not beside `path`."""
    options = dict(told or PIXELS)
    name = str(options.pop("name", ""))
    if name not in SPACES:
        raise UserError(f"{where} runs in the space {name!r}, which this cfdiff does not know: update it.")
    kind = SPACES[name]
    try:
        return kind.beside(path or Path(where), **options) if hasattr(kind, "beside") else kind(**options)
    except TypeError as error:
        raise UserError(f"{where} runs in a space {name!r} of a newer cfdiff: update it.") from error


def _parametrisation(card: Card) -> Parametrisation:
    if card.parametrisation not in PARAMETRISATIONS:
        raise UserError(f"The parametrisation {card.parametrisation!r} of a model is unknown: it needs a newer cfdiff.")
    return card.parametrisation


def save_model(path: Path, net: nn.Module, card: Card, half: bool = True) -> None:
    """Write `net` and its card to `path` at once or not at all; floating-point tensors in float16 if `half`."""
    tensors = {
        k: (v.half() if half and v.is_floating_point() else v).detach().cpu().contiguous()
        for k, v in net.state_dict().items()
    }
    metadata = {"format": FORMAT, "card": json.dumps(asdict(card), sort_keys=True)}
    with atomic(path) as scratch:
        scratch.write_bytes(save(tensors, metadata))


def in_half(path: Path) -> bool:
    """Whether the weights of a model file are in float16."""
    with safe_open(path, "pt") as file:
        return not {"F32", "F64"} & {file.get_slice(k).get_dtype() for k in file.keys()}  # noqa: SIM118


def load_model(path: str | Path, kind: str | None = None, device: str | torch.device = "cpu") -> Model:
    """Build the network of a model file in eval mode, float32, on `device`.

    Raises:
        UserError: the file is missing, no safetensors, not ours, damaged, or not of the `kind` wanted.
    """
    path = named(Path(path))
    card = read_card(path)
    if kind is not None and card.kind != kind:
        raise UserError(f"{path.name} is a {card.kind} model, but a {kind} model is needed here.")
    try:
        with safe_open(path, "pt") as file:
            _check_size(card, {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()})  # noqa: SIM118
            net = _network(card)
            config: Any = net.config
            if card.kind == "diffusion" and bool(config.classes) != (card.condition == "class"):
                raise TypeError("the card and the network disagree on whether there are classes")
            if card.kind == "diffusion" and hasattr(net, "encoder") != (card.condition == "tokens"):
                raise TypeError("the card and the network disagree on whether it reads tokens")
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        if not all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point()):
            raise UserError("It holds weights that are NaN or infinite, so its training went wrong: train it again.")
        net.load_state_dict(tensors)
    except UserError as error:  # its card asks for what may not be
        raise UserError(f"{path.name} cannot be built. {error}") from error
    except (ValidationError, MemoryError, SafetensorError, *BUILD_ERRORS, ArithmeticError) as error:
        raise UserError(
            f"{path.name} is damaged: its weights do not fit its config; train or copy it again."
        ) from error
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    net = net.float().eval().requires_grad_(False).to(device)
    if card.kind == "clean-classifier" and card.space is not None:
        net = EncodedClassifier(net, space_of(card.space, path.name, path), card.space)
    return Model(net, card, sha256, path.stem, path)


def _network(card: Card) -> nn.Module:
    """The network of a card's config, with weights that mean nothing yet."""
    name = str(card.config.get("network", OWN[card.kind]))
    if name not in NETWORKS:
        raise UserError(f"Its network is a {name!r}, which this cfdiff does not know: update it.")
    net: nn.Module = NETWORKS[name](card)
    return net


def _check_size(card: Card, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise TypeError where a card describes another network than that of the tensors, before that takes any memory."""
    try:
        with torch.device("meta"):
            expected = {k: tuple(v.shape) for k, v in _network(card).state_dict().items()}
    except Exception:  # a network that cannot be built without its numbers is built with them, or says why not
        return
    if expected != shapes:
        raise TypeError("the tensors are not those of the network")


def load_diffusion(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """The diffusion model of a file or folder, by the first of registry.DENOISERS that knows it, else as our own.

    Raises:
        UserError: as `load_model`.
    """
    path = named(Path(path))
    for name in DENOISERS:
        if DENOISERS[name].recognises(path):
            found: Model = DENOISERS[name].load(path, device)
            return found
    return load_model(path, "diffusion", device)


def load_own_diffusion(path: str | Path, option: str) -> Model:
    """The diffusion model of one of our own files, from whose weights a training goes on; `option` named it.

    Raises:
        UserError: it is a folder, as those of diffusers are, or as `load_model`.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(
            f"{option} {path.name!r} is a folder, and cfdiff trains on from its own files alone, not from models of "
            "diffusers: give a .safetensors file of cfdiff train-diffusion."
        )
    return load_model(path, "diffusion")


def diffusion_card(path: Path) -> Card:
    """What the diffusion model of a file or folder says of itself; no network is built where its format can tell so.

    Raises:
        UserError: as `load_diffusion`.
    """
    path = named(path)
    for name in DENOISERS:
        kind = DENOISERS[name]
        if kind.recognises(path):
            card: Card = kind.card(path) if hasattr(kind, "card") else kind.load(path, "cpu").card
            return card
    return read_card(path)


class OwnDenoisers:
    """The entry of registry.DENOISERS for our own files."""

    @staticmethod
    def card(path: Path) -> Card:
        """See `read_card`."""
        return read_card(path)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether it is a safetensors file."""
        return path.suffix == ".safetensors"

    @staticmethod
    def load(path: Path, device: str | torch.device) -> Model:
        """See `load_model`."""
        return load_model(path, "diffusion", device)


_CARDS: TypeAdapter[Card] = TypeAdapter(Card)
"""Holds what a file says of itself against the types of a card."""


def _check_told(card: Card) -> None:
    """Raise ValueError where what everyone goes by is not what it must be: the classes, the size of the images."""
    classes = card.data.get("classes") or ["", ""]
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"its classes are {classes!r}")
    kinds = ((card.training, "validation", dict), (card.data, "groups", list), (card.data, "name", str))
    for told, name, kind in kinds:
        if not isinstance(told.get(name, kind()), kind | None):
            raise ValueError(f"its {name} is {told[name]!r}")
    sides = [1, 1, 1] if card.image is None else card.image
    if len(sides) != 3 or min(sides) < 1:
        raise ValueError(f"its images are of {sides!r}")


def read_card(path: Path) -> Card:
    """The card of a model file, without its weights; entries of a newer cfdiff are passed over.

    Raises:
        UserError: the file is missing, a pickle, truncated, or not made by cfdiff.
    """
    refuse_pickle(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise UserError(f"{path.name} was not made by cfdiff: give a .safetensors file made by cfdiff train-….")
        told = parse_json(metadata["card"])
        card = _CARDS.validate_python({f.name: told[f.name] for f in fields(Card) if f.name in told})
        _check_told(card)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path.name} is no readable model file: it is truncated or damaged; copy it again.") from error
    if card.kind not in KINDS:
        raise UserError(f"{path.name} holds a model of unknown kind {card.kind!r}: it needs a newer cfdiff.")
    return card
