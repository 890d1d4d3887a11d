"""cfdiff models inspect: what is in a model, from its card, configs and headers; no network is built."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cfdiff.errors import UserError
from cfdiff.modelfiles.description import Description
from cfdiff.modelfiles.settings import InspectModelSettings
from cfdiff.models.adapters.adm_layout import AdmCheckpoints, read_layout, read_state
from cfdiff.models.adapters.diffusers import DiffusersDenoisers, card_of, latents_of, shape_of, told_of
from cfdiff.models.adapters.diffusers_folder import open_folder
from cfdiff.models.bundled import named
from cfdiff.models.checkpoint import OWN, Card, read_card
from cfdiff.registry import INSPECTIONS

LONG = 12
"""Lists of more entries (betas, groups, timesteps) are told by their length."""


def inspect_model(s: InspectModelSettings) -> Description:
    """What the model `s.model` is; UserError as `describe`."""
    return describe(s.model)


def describe(path: Path) -> Description:
    """What a model is, by the first of registry.INSPECTIONS that knows it.

    Raises:
        UserError: there is none there, or it cannot be read.
    """
    path = named(path)
    if not path.exists():
        raise UserError(f"There is no model {path.name!r}: give a .safetensors or .pt file, or a folder of diffusers.")
    for name in INSPECTIONS:
        if INSPECTIONS[name].recognises(path):
            description: Description = INSPECTIONS[name].describe(path)
            return description
    return Own.describe(path)


class Own:
    """Our own files."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether it is a safetensors file."""
        return path.suffix == ".safetensors" and path.is_file()

    @staticmethod
    def describe(path: Path) -> Description:
        """By its card and the header of its tensors."""
        card = read_card(path)
        config, validation = card.config, card.training.get("validation", {})
        sees = _seen(config)
        image = card.image or sees
        return Description(
            name=path.name,
            format="cfdiff",
            kind=card.kind,
            network=str(config.get("arch") or config.get("network") or OWN[card.kind]),
            image=image,
            sees=sees if card.image is not None else None,
            sha256=_sha256(path),
            labels=config.get("labels"),
            figures=_short(validation),
            made=_short({k: v for k, v in card.training.items() if k not in ("validation", "settings")})
            | {"cfdiff": card.version},
            **_tensors([path]),
            **_of_card(card),
        )


class Diffusers:
    """Folders of diffusers, which need not be installed."""

    recognises = staticmethod(DiffusersDenoisers.recognises)

    @staticmethod
    def describe(path: Path) -> Description:
        """By its configs and the headers of its weights."""
        folder = open_folder(path)
        card, shape, told = card_of(folder), shape_of(folder), told_of(folder)
        sees, latents = [*shape.size, shape.channels], latents_of(folder)
        facts = _of_card(card)
        if latents is not None:
            facts["space"] = {**latents.space, "scaling_factor": latents.scaling, "shift_factor": latents.shift}
        return Description(
            name=path.name,
            format="diffusers",
            kind=card.kind,
            network=str(card.config["arch"]),
            image=card.image or sees,
            sees=sees if card.image is not None else None,
            sha256=folder.sha256,
            labels=None if told is None else told.known,
            made={"diffusers": card.version} if card.version else {},
            **_tensors(folder.weights),
            **facts,
        )


class Adm:
    """Checkpoints of guided-diffusion, which say of themselves what shows in their tensors."""

    recognises = staticmethod(AdmCheckpoints.recognises)

    @staticmethod
    def describe(path: Path) -> Description:
        """By the names and shapes of its tensors."""
        state = read_state(path)
        layout = read_layout(state, path.name)
        known: dict[str, Any] = {"in_channels": layout.channels, "num_channels": layout.width}
        if layout.blocks is not None:
            known |= {"num_res_blocks": layout.blocks, "channel_mult": layout.mult(layout.blocks)}
            known |= {"attention at 1/": layout.attention(layout.blocks)}
        known |= {"use_scale_shift_norm": layout.scale_shift, "resblock_updown": layout.resblock_updown}
        known |= {"pool": layout.pool} if layout.encoder else {"learn_sigma": layout.out == 2 * layout.channels}
        command = "adm-classifier" if layout.encoder else "adm"
        return Description(
            name=path.name,
            format="adm",
            kind="noisy-classifier" if layout.encoder else "diffusion",
            network="EncoderUNetModel" if layout.encoder else "UNetModel",
            image=None,
            parameters=layout.parameters,
            bytes=path.stat().st_size,
            types=sorted({str(value.dtype).removeprefix("torch.") for value in state.values()}),
            sha256=_sha256(path),
            labels=layout.labels or None,
            made=known,
            advice=f"cfdiff models import {command} {path.name} --image-size N, with its own heads and noise schedule",
        )


def _of_card(card: Card) -> dict[str, Any]:
    data = {k: card.data.get(k) for k in ("name", "split", "images", "groups", "classes")}
    schedule = _short(card.schedule or {}) or None
    told: dict[str, Any] = {"schedule": schedule, "data": _short(data), "space": card.space}
    if card.kind == "diffusion":
        told |= {"parametrisation": card.parametrisation, "learned_sigma": card.learned_sigma}
        words = card.config.get("encoder", {}).get("name", "text") if card.condition == "tokens" else None
        told |= {"condition": words or card.condition, "told_nothing": card.told_nothing}
    return told


def _seen(config: dict[str, Any]) -> list[int] | None:
    """(h, w, c) of what a network gets, by its config."""
    size, channels = config.get("size", [config.get("image")] * 2), config.get("channels")
    if channels is None or not isinstance(size, list | tuple) or None in size:  # a card may say anything
        return None
    return [*size, channels]


def _tensors(paths: Iterable[Path]) -> dict[str, Any]:
    """Parameters, bytes and types by the headers of safetensors files."""
    n, size, types = 0, 0, set()
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118
                    part = file.get_slice(key)
                    count = 1
                    for side in part.get_shape():
                        count *= side
                    n += count
                    types.add(part.get_dtype())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path.name} is truncated or damaged: copy it again.") from error
        size += path.stat().st_size
    return {"parameters": n, "bytes": size, "types": sorted(types)}


def _short(part: dict[str, Any]) -> dict[str, Any]:
    """Without what is not known, and with long lists told by their length."""
    known = {k: v for k, v in part.items() if v is not None}
    return {k: f"{len(v)} of them" if isinstance(v, list) and len(v) > LONG else v for k, v in known.items()}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
