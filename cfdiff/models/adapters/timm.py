"""timm models: a state dict as safetensors, or the folder that timm's `save_for_hf` and `push_to_hf_hub` write.

Of a folder, config.json says the architecture, the number of classes, the channels, the input size and the
normalisation that timm itself would use; not whether the numbers are logits of classes or of labels, nor which class is
which.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cfdiff.errors import UserError
from cfdiff.files import parse_json
from cfdiff.models.arguments import check_arguments
from cfdiff.models.checkpoint import Model
from cfdiff.models.classifier import BUILD_ERRORS, check_arch
from cfdiff.models.description import Description, description_file
from cfdiff.models.foreign import describe, digest, foreign_model, is_ours, said
from cfdiff.models.given import ModelFile

CONFIG, WEIGHTS = "config.json", "model.safetensors"
WRAPPERS = ("module.", "model.", "net.", "backbone.")
"""What trainers put before the names of a network's tensors."""


class TimmClassifiers:
    """The entry of registry.CLASSIFIERS."""

    @staticmethod
    def recognises(file: ModelFile) -> bool:
        """Whether it is a safetensors file of somebody else, or a folder with a config or weights in it."""
        if not isinstance(file, Path):
            return False
        if file.is_dir():
            return (file / CONFIG).is_file() or (file / WEIGHTS).is_file()
        return file.suffix == ".safetensors" and file.is_file() and not is_ours(file)

    @staticmethod
    def known(file: ModelFile) -> dict[str, Any]:
        """What the config.json of a folder says; a state dict alone says nothing."""
        assert isinstance(file, Path)
        return _config(file) if file.is_dir() else {}

    @staticmethod
    def load(file: ModelFile, device: torch.device, steers: bool) -> Model:
        """The network with its weights; nothing is fetched from anywhere."""
        assert isinstance(file, Path)
        files = [file / CONFIG, file / WEIGHTS] if file.is_dir() else [file]
        if missing := [path.name for path in files if not path.is_file()]:
            raise UserError(
                f"The folder {file.name!r} holds no {missing[0]}: write it with "
                "timm.models.save_for_hf(net, folder, safe_serialization=True)."
            )
        description = describe(TimmClassifiers, file)
        core = _build(file, description, _tensors(files[-1]))
        return foreign_model(file, "timm", core, description, digest(files), device)


def _config(folder: Path) -> dict[str, Any]:
    """config.json of timm, in the words of a description."""
    path = folder / CONFIG
    try:
        told = parse_json(path.read_text())
        weights = told.get("pretrained_cfg") or {}
        arguments = {key: value for key, value in (told.get("model_args") or {}).items()}
        arch, channels = told["architecture"], arguments.pop("in_chans", (weights.get("input_size") or [None])[0])
        number = arguments.pop("num_classes", told.get("num_classes"))
        size = weights.get("input_size")
        mean, std = weights.get("mean"), weights.get("std")
        found = {
            "arch": arch,
            "num_classes": number,
            "channels": channels,
            "size": None if size is None else size[1:],
            "normalisation": None if mean is None or std is None else {"mean": mean, "std": std},
            "interpolation": "bicubic" if weights.get("interpolation") == "bicubic" else None,
            "kwargs": arguments or None,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder.name}/{CONFIG} is missing or no config of a timm model: copy the whole folder that timm's "
            "save_for_hf or the hub has."
        ) from error
    return {key: value for key, value in found.items() if value is not None}


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path.name} is no readable safetensors file: it is truncated or damaged; copy it again."
        ) from error
    while wrapper := next((w for w in WRAPPERS if tensors and all(key.startswith(w) for key in tensors)), None):
        tensors = {key.removeprefix(wrapper): value for key, value in tensors.items()}
    return tensors


def _build(file: Path, description: Description, tensors: dict[str, Tensor]) -> torch.nn.Module:
    import timm

    where, arch = description_file(file).name, description.arch
    if arch is None:
        raise UserError(
            f"{file.name} holds tensors alone, and nobody says of which timm model: write arch into {where}, as "
            f"cfdiff models describe {file.name} --arch resnet18 does."
        )
    check_arch(arch, timm.list_models())
    check_arguments(arch, description.kwargs)
    classes = description.num_classes or _last(arch, tensors)
    try:
        net = timm.create_model(arch, num_classes=classes, in_chans=description.channels, **description.kwargs)
    except BUILD_ERRORS as error:
        raise UserError(f"timm cannot build {arch!r} as {where} describes it: {said(error)}.") from error
    own = net.state_dict()
    wrong = [
        f"{key} {'is missing' if key not in tensors else f'is {_shape(tensors[key])} and not {_shape(own[key])}'}"
        for key in own
        if key not in tensors or tensors[key].shape != own[key].shape
    ] + [f"{key} is not in that model" for key in tensors if key not in own]
    if wrong:
        raise UserError(
            f"{file.name} does not fit timm's {arch!r} with {classes} classes and {description.channels} channels "
            f"({wrong[0]}{f', and {len(wrong) - 1} more' if len(wrong) > 1 else ''}): write the arch, num_classes, "
            f"channels and kwargs that it was trained with into {where}."
        )
    net.load_state_dict(tensors)
    return net.float()


def _last(arch: str, tensors: dict[str, Tensor]) -> int:
    """The number of classes, by the weights of the last layer; timm knows its name."""
    import timm

    config = timm.get_pretrained_cfg(arch, allow_unregistered=True)
    names = [] if config is None or config.classifier is None else config.classifier
    for name in [names] if isinstance(names, str) else names:
        if (weight := tensors.get(f"{name}.weight")) is not None:
            return int(weight.shape[0])
    raise UserError(f"The number of classes of {arch!r} cannot be read off its weights: say it with num_classes.")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
