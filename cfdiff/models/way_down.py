"""The way down of our U-Net as a classifier: what a denoiser has learned of images serves to tell their classes, too.

The inner features of a denoiser tell classes apart (Baranchuk et al. 2022; Xiang et al. 2023, DDAE), and the noisy
classifier of Dhariwal & Nichol (2021, section 4) is such a way down, begun from nothing. What it buys to begin from a
trained denoiser: docs/training.md, benchmarks/beginnings.py.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError, first_line
from cfdiff.models.unet import UNet, UNetConfig, take_way_down, way_down

ARCH = "unet"
"""What --arch, and the config of a classifier, call it."""
SHAPING = ("patch", "width", "mult", "blocks", "attention", "head_width", "dropout")
"""What of a U-Net's config its further arguments are; channels and size are those of the images."""


class WayDown(nn.Module):
    """Logits (B, 2) of x (B, C, H, W) in [-1, 1], as a timm model gives them; where it is `noisy`, the last channel is
    the plane that tells the noise, else there is none.

    What the linear layer sees are means over all positions of the last skip and of the middle, and the highest of the
    middle.
    """

    levels: Tensor

    def __init__(self, channels: int, size: tuple[int, int], noisy: bool, kwargs: dict[str, Any], span: float) -> None:
        """`kwargs` are `SHAPING` and `schedule`, the config of the noise schedule by whose timesteps it counts; `span`
        is the log-SNR at which the plane is 1.

        Raises:
            UserError: there is no such U-Net.
        """
        super().__init__()
        told = dict(kwargs)
        counted = told.pop("schedule", {"name": "cosine", "T": 1000})
        if not isinstance(counted, dict):
            raise UserError(
                f"The argument schedule of --arch {ARCH}, {counted!r}, is no schedule: give its name and T."
            )
        schedule = NoiseSchedule.from_config(counted)
        if unknown := sorted(set(told) - set(SHAPING)):
            raise UserError(
                f"--arch {ARCH} has no {unknown[0]!r}: its further arguments are {', '.join(SHAPING)} and schedule."
            )
        try:
            config = UNetConfig(channels=channels, size=size, **told)
        except ValidationError as error:
            raise UserError(f"--arch {ARCH} cannot be built of these arguments: {first_line(error)}.") from error
        self.noisy, self.span = noisy, span
        self.register_buffer("levels", schedule.log_snr(torch.arange(1, schedule.T + 1)).float(), persistent=False)
        self.net = way_down(config)
        deepest = config.width * config.mult[-1]
        self.norm = nn.LayerNorm(3 * deepest)
        self.fc: nn.Module = nn.Linear(3 * deepest, 2)
        self.feature_info = [{"module": f"net.down.{i}.1"} for i in self._last_of_each()]

    def forward(self, x: Tensor) -> Tensor:
        if self.noisy:
            x, plane = x[:, :-1], x[:, -1, 0, 0]
        else:
            plane = torch.ones_like(x[:, 0, 0, 0])
        h, skips = self.net.encoded(self.net.folded(x), self.net.embedded(self.timestep(plane)))
        features = torch.cat([skips[-1].mean((2, 3)), h.mean((2, 3)), h.amax((2, 3))], dim=1)
        out: Tensor = self.fc(self.norm(features))
        return out

    def timestep(self, plane: Tensor) -> Tensor:
        """(B,) int64 the timestep whose log-SNR is nearest to what the plane (B,) tells."""
        return (self.levels - self.span * plane.to(self.levels)[:, None]).abs().argmin(1)

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm's models have it."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Take the last layer off, for 0, or put a new one in its place, as timm's models do."""
        self.fc = nn.Linear(self.norm.normalized_shape[0], num_classes) if num_classes else nn.Identity()

    @torch.no_grad()
    def begin_from(self, denoiser: UNet) -> None:
        """Take the weights of a denoiser of the same shape; of one that may be told the class, as it is told none."""
        take_way_down(self.net, denoiser)
        if denoiser.told is not None:
            self.net.embed[-1].bias += denoiser.told.weight[-1]

    def _last_of_each(self) -> list[int]:
        """Number of the last stage down of each resolution."""
        blocks: Any = self.net.down
        halvings = [i for i, (block, _) in enumerate(blocks) if block.scale == "down"]
        return [*(i - 1 for i in halvings), len(blocks) - 1]


def arguments_of(config: dict[str, Any], schedule: dict[str, Any] | None) -> dict[str, Any]:
    """The further arguments of a way down of the shape of a U-Net with this config, that counts by this schedule."""
    shape = {key: config[key] for key in SHAPING if key in config}
    return {**shape, "dropout": 0.0, **({} if schedule is None else {"schedule": schedule})}
