"""Classifiers: any timm model, with a noise-level plane where it is to read noisy images.

A `noisy` classifier is the guide: it saw x_l in training and takes C + 1 channels, the last of which holds the
log-SNR of the level. A clean one is a checker or a judge.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from cfdiff.errors import UserError

LOG_SNR_SPAN = 10.0
"""|log-SNR| at which the noise-level plane saturates at +-1."""


class ClassifierConfig(BaseModel):
    """What builds a classifier; stored in its checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arch: str = Field("resnet14t", description="Name of a timm model.")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Further arguments of timm.create_model.")
    channels: PositiveInt = 1
    size: tuple[PositiveInt, PositiveInt] = (48, 48)
    upsample: PositiveInt = Field(1, description="Bilinear enlargement before the network.")
    noisy: bool = False


class Classifier(nn.Module):
    """Logits (B, 2) of negative and positive for images (B, C, H, W) in [-1, 1], noisy ones with their log-SNR."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        import timm  # two seconds of import, which a U-Net alone need not pay

        _check_arch(config.arch, timm.list_models())
        self.config = config
        try:
            self.net = timm.create_model(
                config.arch, in_chans=config.channels + config.noisy, num_classes=2, **config.kwargs
            )
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"timm cannot build {config.arch!r} with {config.kwargs or 'no further arguments'}: {error}"
            ) from error
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, log_snr: Tensor | None = None) -> Tensor:
        """Logits (B, 2); `log_snr` is (B,) for a noisy classifier (+inf for a clean image), None for a clean one."""
        if log_snr is not None:
            plane = (log_snr.to(x.dtype) / LOG_SNR_SPAN).clamp(-1, 1).view(-1, 1, 1, 1)
            x = torch.cat([x, plane.expand(-1, 1, *x.shape[2:])], dim=1)
        if self.config.upsample > 1:
            x = F.interpolate(x, scale_factor=self.config.upsample, mode="bilinear", align_corners=False)
        return self.net(x.contiguous(memory_format=torch.channels_last))


def load_pretrained(model: Classifier, path: str) -> int:
    """Copy the tensors of a local safetensors file that fit by name and shape; how many did.

    The input convolution is adapted where only its channel count differs: the mean over the input channels, scaled
    so that the response to an all-equal input stays the same, and zero for the noise-level plane.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is no readable safetensors file ({error}): give timm weights saved as safetensors."
        ) from error
    own = model.net.state_dict()
    stem = next(
        (k for k, v in own.items() if v.ndim == 4 and v.shape[1] == model.config.channels + model.config.noisy),
        None,
    )
    if stem in given and given[stem].ndim == 4 and given[stem].shape[1:2] != own[stem].shape[1:2]:
        mean = given[stem].sum(1, keepdim=True) / model.config.channels
        planes = [mean] * model.config.channels + [torch.zeros_like(mean)] * model.config.noisy
        given[stem] = torch.cat(planes, dim=1)
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    if not fitting:
        raise UserError(f"{path} holds no tensor that fits {model.config.arch!r}: give weights of that timm model.")
    model.net.load_state_dict(fitting, strict=False)
    return len(fitting)


def _check_arch(arch: str, known: list[str]) -> None:
    if arch.split(".")[0] not in known:
        close = difflib.get_close_matches(arch, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists the known ones."
        raise UserError(f"timm knows no model {arch!r}; {hint}")
