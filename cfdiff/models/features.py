"""Features of images: the judge before its last layer, or any timm model that the user names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.arguments import is_plain_name
from cfdiff.models.checkpoint import Model
from cfdiff.models.classifier import Classifier
from cfdiff.models.foreign import Foreign

Extract = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [-1, 1] -> features (B, D)."""
ADVICE = "give a local safetensors file of them with --feature-weights, or leave --features out to use the judge"


def has_features(judge: Model) -> bool:
    """Whether its last layer can be taken off: of timm models, not of a graph or a function."""
    return hasattr(_body(judge.net), "reset_classifier")


def judge_features(judge: Model, device: torch.device) -> Extract:
    """The judge without its last layer.

    Raises:
        UserError: it is no timm model.
    """
    if not has_features(judge):
        raise UserError(
            f"The judge {judge.name!r} is no timm model, so it has no features that could be read: name a timm model "
            "with --features."
        )
    net = copy.deepcopy(judge.net)
    _body(net).reset_classifier(0)
    ask = net.outputs if isinstance(net, Foreign) else net
    return lambda x: ask(x.to(device)).float()


def _body(net: nn.Module) -> Any:
    net = getattr(net, "classifier", net)  # of one that sees an encoding
    return net.core if isinstance(net, Foreign) else net.net if isinstance(net, Classifier) else None


def feature_maps(model: Model, device: torch.device) -> Callable[[Tensor], list[Tensor]]:
    """Images (B, C, H, W) in [-1, 1] -> the maps of a clean classifier at each of its resolutions, with their gradient.

    Raises:
        UserError: timm does not say where this architecture has maps.
    """
    if not isinstance(model.net, Classifier):
        raise UserError(f"The classifier {model.name!r} sees no pixels, so it has no maps of them: give another one.")
    net, found = copy.deepcopy(model.net).to(device), []
    inside: Any = net.net
    modules = dict(inside.named_modules())
    for info in getattr(inside, "feature_info", None) or []:
        if (module := modules.get(str(info["module"]))) is not None:
            module.register_forward_hook(lambda module, given, output: found.append(output))

    def maps(x: Tensor) -> list[Tensor]:
        found.clear()
        net(x)
        return [output for output in found if isinstance(output, Tensor) and output.ndim == 4]

    with torch.no_grad():
        if not maps(torch.zeros(1, net.config.channels, *net.config.size, device=device)):
            raise UserError(
                f"The classifier {model.name!r} ({net.config.arch}) has no feature maps that timm names: give one of a "
                "convolutional network with --features."
            )
    return maps


def feature_distance(maps: Callable[[Tensor], list[Tensor]], x: Tensor, original: Tensor) -> Tensor:
    """(B,) how far images are from their originals to a network: the squared difference of its maps, each normalised
    along the channels, averaged over positions and maps (LPIPS, Zhang et al. 2018, eq. 1, with all weights 1)."""
    with torch.no_grad():
        wanted = [F.normalize(output.float(), dim=1) for output in maps(original)]
    pairs = zip(maps(x), wanted, strict=True)
    return torch.stack([(F.normalize(a.float(), dim=1) - b).square().sum(1).mean((1, 2)) for a, b in pairs]).mean(0)


def timm_features(name: str, weights: Path | None, channels: int, device: torch.device) -> Extract:
    """A timm model without its head; images are enlarged to its size and normalised as it was trained.

    Raises:
        UserError: timm does not know it, or its weights are neither given nor on this machine: no network is asked.
    """
    import timm

    if channels not in (1, 3):
        raise UserError(f"--features takes images of 1 or 3 channels, not {channels}: leave it out to use the judge.")
    if name not in (timm.list_pretrained() if "." in name else timm.list_models()) or not is_plain_name(name):
        raise UserError(f"timm knows no model {name!r} for --features: timm.list_models() lists the known ones.")
    kept = None if weights is not None else timm_weights(name, None)
    if weights is None and kept is None:
        raise UserError(f"The weights of {name!r} are not on this machine, and cfdiff fetches none: {ADVICE}.")
    options: dict[str, Any] = (
        {} if kept is None else {"pretrained": True, "pretrained_cfg_overlay": {"file": str(kept)}}
    )
    try:
        net = timm.create_model(name, num_classes=0, **options)
    except Exception as error:  # timm passes on whatever its loaders raise
        raise UserError(f"timm cannot make {name!r} ({type(error).__name__}): {ADVICE}.") from error
    if weights is not None:
        _load(net, weights, name)
    config = timm.data.resolve_model_data_config(net)
    size = config["input_size"][1:]
    mean, std = (torch.tensor(config[k]).view(1, 3, 1, 1).to(device) for k in ("mean", "std"))
    net = net.eval().requires_grad_(False).to(device)

    def extract(x: Tensor) -> Tensor:
        x = ((x.to(device) + 1) / 2).expand(-1, 3, -1, -1)
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        return net((x - mean) / std).float()

    return extract


def timm_weights(name: str, weights: Path | None) -> Path | None:
    """The file of weights that `timm_features` takes: the one given, or what timm has fetched before."""
    import timm

    return weights if weights is not None else _downloaded(timm.get_pretrained_cfg(name))


def _downloaded(told: Any) -> Path | None:
    """The file of weights that timm has fetched before, by what it knows of a model, or None."""
    from huggingface_hub import try_to_load_from_cache

    if told is None:
        return None
    if told.hf_hub_id:
        repo, _, revision = str(told.hf_hub_id).partition("@")
        names = (told.hf_hub_filename,) if told.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        found = [try_to_load_from_cache(repo, one, revision=revision or None) for one in names]
        if kept := [Path(one) for one in found if isinstance(one, str)]:
            return kept[0]
    if told.url and (file := Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(told.url).path).name).is_file():
        return file
    return None


def _load(net: nn.Module, weights: Path, name: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        given = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"--feature-weights {weights.name} is no readable safetensors file: give one.") from error
    own = net.state_dict()
    if any(key not in given or given[key].shape != value.shape for key, value in own.items()):
        raise UserError(f"--feature-weights {weights.name} does not fit {name!r}: give weights of that timm model.")
    net.load_state_dict({key: given[key] for key in own})
