"""Classifiers: any timm model, or the way down of a U-Net, with a noise-level plane where it is to read noisy images.

A `noisy` classifier is the guide: it saw x_l in training and takes C + 1 channels, the last of which holds the
log-SNR of the level. A clean one is a checker or a judge.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from cfdiff.errors import UserError, first_line
from cfdiff.models.arguments import check_arguments, is_plain_name
from cfdiff.models.way_down import ARCH, WayDown

LOG_SNR_SPAN = 10.0
"""|log-SNR| at which the noise-level plane saturates at +-1."""
BUILD_ERRORS = (TypeError, AssertionError, ValueError, RuntimeError, KeyError, IndexError, AttributeError)
"""What timm's models raise at arguments or sizes that they cannot take."""


class ClassifierConfig(BaseModel):
    """What builds a classifier; stored in its checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arch: str = Field("resnet14t", description=f"Name of a timm model, or {ARCH!r} (`way_down`).")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Further arguments that shape it.")
    channels: PositiveInt = Field(1, le=4096)
    size: tuple[PositiveInt, PositiveInt] = (48, 48)
    upsample: PositiveInt = Field(1, le=64, description="Bilinear enlargement before the network.")
    downsample: PositiveInt = Field(1, le=64, description="Side of the patches whose mean the network sees.")
    noisy: bool = False

    @property
    def seen(self) -> tuple[int, int]:
        """Height and width that the network sees."""
        height, width = (side * self.upsample // self.downsample for side in self.size)
        return height, width


class Classifier(nn.Module):
    """Logits (B, 2) of negative and positive for images (B, C, H, W) in [-1, 1], noisy ones with their log-SNR."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.net = _of_timm(config) if config.arch != ARCH else _way_down(config)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, log_snr: Tensor | None = None) -> Tensor:
        """Logits (B, 2); `log_snr` is (B,) for a noisy classifier (+inf for a clean image), None for a clean one."""
        if log_snr is not None:
            plane = (log_snr.to(x.dtype) / LOG_SNR_SPAN).clamp(-1, 1).view(-1, 1, 1, 1)
            x = torch.cat([x, plane.expand(-1, 1, *x.shape[2:])], dim=1)
        if self.config.upsample > 1:
            x = F.interpolate(x, scale_factor=self.config.upsample, mode="bilinear", align_corners=False)
        if self.config.downsample > 1:
            x = F.interpolate(x, scale_factor=1 / self.config.downsample, mode="area")
        return self.net(x.contiguous(memory_format=torch.channels_last))

    @property
    def shiftable(self) -> bool:
        """Whether the last layer has a bias."""
        last = last_layer(self.net)
        return last is not None and last.bias is not None

    @torch.no_grad()
    def shift(self, by: float) -> Tensor:
        """Add `by` to the log-odds of the positive class of a network that is `shiftable`; what that adds to its
        logits, (2,). A bias that float16 holds stays one, or the file would hold another than was asked."""
        last = last_layer(self.net)
        assert last is not None
        before = last.bias.clone()
        shifted = before + torch.tensor([-by / 2, by / 2]).to(before)
        last.bias.copy_(shifted.half() if torch.equal(before, before.half().to(before)) else shifted)
        return last.bias - before


def _of_timm(config: ClassifierConfig) -> Any:
    import timm  # two seconds of import, which a U-Net alone need not pay

    check_arch(config.arch, timm.list_models())
    check_arguments(config.arch, config.kwargs)
    try:
        return timm.create_model(config.arch, in_chans=config.channels + config.noisy, num_classes=2, **config.kwargs)
    except BUILD_ERRORS as error:
        raise UserError(
            f"timm cannot build {config.arch!r} with {config.kwargs or 'no further arguments'}: {first_line(error)}."
        ) from error


def _way_down(config: ClassifierConfig) -> WayDown:
    return WayDown(config.channels, config.seen, config.noisy, config.kwargs, LOG_SNR_SPAN)


def last_layer(net: Any) -> nn.Linear | None:
    """The layer of a network that makes logits of features; None where that is no linear one."""
    last = net.get_classifier()
    return last if isinstance(last, nn.Linear) else None


def build_timm(card: Any) -> nn.Module:
    """The entry of registry.NETWORKS: that of a `checkpoint.Card`."""
    return Classifier(ClassifierConfig(**card.config))


def build_classifier(config: ClassifierConfig) -> Classifier:
    """A new classifier that is known to take its images; its config may have gained `img_size`.

    Models that are made for one image size (most transformers) are told this one.

    Raises:
        UserError: timm has no such model, or it cannot take images of this size.
    """
    net = Classifier(config)
    problem = _trial(net)
    if problem is None:
        return net
    height, width = config.seen
    try:
        if "img_size" not in config.kwargs:
            told = config.model_copy(update={"kwargs": {**config.kwargs, "img_size": (height, width)}})
            net = Classifier(told)
            if _trial(net) is None:
                return net
    except UserError:
        pass  # it takes no such argument; the first problem says more
    raise UserError(
        f"{config.arch!r} cannot take images of {height}x{width} pixels ({problem}): "
        "enlarge them with --upsample, shrink them with --downsample, or choose another --arch."
    )


def load_pretrained(model: Classifier, path: str | Path) -> int:
    """Copy the tensors of a local safetensors file that fit by name and shape; how many did.

    The input convolution is adapted where only its channel count differs: the mean over the input channels, scaled
    so that the response to an all-equal input stays the same, and zero for the noise-level plane.

    Raises:
        UserError: the file is missing, no safetensors, or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    refuse_pickle(path)
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path.name} is no readable safetensors file: save timm weights as safetensors.") from error
    own, config = model.net.state_dict(), model.config
    stem = next((k for k, v in own.items() if v.ndim == 4 and v.shape[1] == config.channels + config.noisy), None)
    if stem in given and given[stem].ndim == 4 and given[stem].shape[1] != own[stem].shape[1]:
        mean = given[stem].sum(1, keepdim=True) / config.channels
        planes = [mean] * config.channels + [torch.zeros_like(mean)] * config.noisy
        given[stem] = torch.cat(planes, dim=1)
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    if not fitting:
        raise UserError(f"{path.name} holds no tensor that fits {config.arch!r}: give weights of that timm model.")
    model.net.load_state_dict(fitting, strict=False)
    return len(fitting)


def refuse_pickle(path: Path) -> None:
    """Raise UserError for a file that is missing or a folder, or a pickle (plain, or zipped by torch.save)."""
    if path.is_dir():
        raise UserError(f"{path.name!r} is a folder, and what is needed here is one .safetensors file: give that.")
    if not path.is_file():
        raise UserError(f"There is no model file {path.name!r}: give a .safetensors file.")
    with open(path, "rb") as raw:
        head = raw.read(9)
    # A safetensors file begins with the length of its JSON header, which may happen to be a pickle's first bytes.
    if head[8:] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise UserError(
            f"{path.name} is a pickled checkpoint, which can run any code when opened: it is refused; "
            "give a .safetensors file."
        )


@torch.no_grad()
def _trial(model: Classifier) -> str | None:
    """What goes wrong with an image of the config's size, or None."""
    config = model.config
    training, x = model.training, torch.zeros(1, config.channels, *config.size)
    try:
        logits = model.eval()(x, torch.zeros(1) if config.noisy else None)
    except BUILD_ERRORS as error:
        return first_line(error)
    finally:
        model.train(training)
    return None if logits.shape == (1, 2) and bool(logits.isfinite().all()) else "its output is no pair of logits"


def check_arch(arch: str, known: list[str]) -> None:
    """Raise UserError for a name that timm does not know, or that is none."""
    if arch.split(".")[0] not in known or not is_plain_name(arch):
        close = difflib.get_close_matches(arch, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists the known ones."
        raise UserError(f"timm knows no model {arch!r}; {hint}")
