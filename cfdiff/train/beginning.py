"""--init: a training that begins from a diffusion model, perhaps to teach it a condition, or to tell classes apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console
from torch import nn

from cfdiff.data.source import Source
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Model, in_half, load_own_diffusion, read_card
from cfdiff.models.prompted import OWN, Prompted
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.models.way_down import ARCH, arguments_of
from cfdiff.settings import first_changed
from cfdiff.train.folder import RunFolder
from cfdiff.train.settings import ClassifierSettings, DiffusionSettings, TrainSettings
from cfdiff.train.telling import Telling

S = TypeVar("S", bound=TrainSettings)
SHAPING = ("patch", "width", "mult", "blocks", "attention", "dropout")
"""Settings that the model has decided already, besides schedule, T and parametrisation."""
OF_OTHER_NETWORKS = ("arch", "kwargs", "upsample", "downsample", "pretrained")
"""Settings of a classifier that begins from nothing, or from weights of timm."""
GENTLE = 1e-3
"""Learning rate of a classifier that begins from a diffusion model: half of what others have. With a third of it the
cross-entropy of three sets was higher after 2.5 minutes (docs/training.md)."""


@dataclass(frozen=True)
class Beginning:
    """The model that a training begins from, and the shape of its U-Net."""

    model: Model
    shape: UNetConfig

    def put_into(self, network: nn.Module) -> None:
        """Its weights into a network of the same shape; what that has besides stays as it is, at zero."""
        own = self.model.net
        if isinstance(own, Prompted) or not isinstance(network, Prompted):
            network.load_state_dict(own.state_dict(), strict=False)
        else:
            network.net.load_state_dict(own.state_dict(), strict=False)

    @property
    def unet(self) -> UNet:
        """The model's network, where it is one that reads no words."""
        assert isinstance(self.model.net, UNet)
        return self.model.net

    @property
    def groups(self) -> set[str]:
        """What the model has learned from."""
        return set(self.model.card.data.get("groups") or ())

    def say_known(self, validation: Source, console: Console) -> None:
        """How many groups of the validation the model has learned from; nothing where none."""
        here = set() if validation.groups is None else {str(group) for group in validation.groups}
        if known := len(here & self.groups):
            console.print(
                f"{known} of {len(here)} groups to validate on taught what it begins from: the figures flatter it."
            )

    def also(self, card: dict[str, Any], folder: RunFolder) -> dict[str, Any]:
        """What a card says of the data, of a network that has learned from the model's, too. A training that goes on in
        its folder began from what it says there, whatever has become of the file since."""
        goes_on = folder.model.exists() and not folder.s.force
        before = read_card(folder.model).data.get("began_from") if goes_on else None
        return {**card, "groups": sorted({*self.groups, *card["groups"]}), "began_from": before or self.model.sha256}


def as_decided(s: DiffusionSettings, model: Model) -> DiffusionSettings:
    """The settings of a training that begins from a model: schedule and parametrisation, where they were not asked for,
    are the model's."""
    schedule = model.card.schedule or {}
    known = {"parametrisation": model.card.parametrisation, "schedule": schedule.get("name"), "T": schedule.get("T")}
    update = {key: value for key, value in known.items() if value is not None and key not in s.model_fields_set}
    return as_stored(s.model_copy(update=update), model)


def as_stored(s: S, model: Model) -> S:
    """The settings of a training that begins from a model: its weights are saved as those of the model's file are,
    where nothing else is said."""
    if s.half is not None or model.path is None:
        return s
    return s.model_copy(update={"half": in_half(model.path)})


def beginning(
    s: DiffusionSettings, model: Model, told: Telling, facts: dict[str, Any], z: tuple[int, int, int]
) -> Beginning:
    """The beginning from the model of --init, for latents or images z (c, h, w) in the space of `facts`.

    Raises:
        UserError: it is none of our U-Nets, or does not fit the data, the settings or the condition.
    """
    shape = _shape(s, model, facts, z)
    card, name = model.card, _named(s)
    decided = shape.model_dump() | (card.schedule or {}) | {"parametrisation": card.parametrisation}
    decided |= {"schedule": decided.get("name")}
    for key in (*SHAPING, "schedule", "T", "parametrisation"):
        if key in s.model_fields_set and getattr(s, key) is not None and getattr(s, key) != decided.get(key):
            raise UserError(
                f"{name} has {key.replace('_', '-')} {decided.get(key)}, which a training that begins from it "
                f"keeps: leave --{key.replace('_', '-')} out."
            )
    if card.condition is not None and card.condition != told.condition:
        raise UserError(
            f"{name} is told {card.condition}, and --condition {s.condition} is another thing: give the same."
        )
    if card.condition == "tokens" and card.config["encoder"] != told.config_of_encoder():
        raise UserError(
            f"{name} has another condition encoder (other words, other attributes): give the captions, columns "
            "and text tower that it was trained with."
        )
    return Beginning(model, shape)


def begun_classifier(
    s: ClassifierSettings, facts: dict[str, Any], z: tuple[int, int, int]
) -> tuple[ClassifierSettings, Beginning]:
    """The settings of a classifier of latents or images z (c, h, w) in the space of `facts` that begins from the model
    of --init, and that beginning: the way down of its network, its schedule, and a gentle rate where none is asked for.

    Raises:
        UserError: it is none of our U-Nets, does not fit the data, or the settings ask for another network.
    """
    assert s.init is not None
    model = load_own_diffusion(s.init, "--init")
    shape = _shape(s, model, facts, z)
    if option := first_changed(s, OF_OTHER_NETWORKS):
        raise UserError(
            f"{_named(s)} is the network of a classifier that begins from it, and {option} shapes another one: "
            "give one of the two."
        )
    if not isinstance(model.net, UNet):
        raise UserError(
            f"{_named(s)} reads words, which a classifier has not: give a model with --condition class, or without one."
        )
    update: dict[str, Any] = {"arch": ARCH, "kwargs": arguments_of(shape.model_dump(mode="json"), model.card.schedule)}
    if s.noisy and not s.model_fields_set & {"schedule", "schedule_of", "T"}:
        update["schedule_of"] = s.init
    if "lr" not in s.model_fields_set:
        update["lr"] = GENTLE
    return as_stored(s.model_copy(update=update), model), Beginning(model, shape)


def _named(s: DiffusionSettings | ClassifierSettings) -> str:
    assert s.init is not None
    return f"--init {s.init.name!r}"


def _shape(
    s: DiffusionSettings | ClassifierSettings, model: Model, facts: dict[str, Any], z: tuple[int, int, int]
) -> UNetConfig:
    """The shape of the U-Net of the model of --init; UserError where it is no U-Net of ours, or not of images z."""
    card = model.card
    if card.config.get("network", "unet") not in ("unet", "unet-tokens") or card.learned_sigma:
        raise UserError(f"{_named(s)} is no U-Net of cfdiff train-diffusion: give the file of one.")
    shape = UNetConfig(**{key: value for key, value in card.config.items() if key not in OWN})
    if (shape.channels, *shape.size) != z or (card.space or None) != facts.get("space"):
        raise UserError(
            f"{_named(s)} draws images of {model.shape[0]}x{model.shape[1]}x{model.shape[2]} in "
            f"{(card.space or {'name': 'pixel'})['name']} space, and this training is of others: give a model of these "
            "images, in the same space (--space, and the same --autoencoder)."
        )
    return shape
