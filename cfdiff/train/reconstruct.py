"""How good an autoencoder is: what its images have lost, and whether a judge still sees the same class in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfdiff.data.values import to_model, to_saved, unit
from cfdiff.metrics.fidelity import fidelity
from cfdiff.models.autoencoder import Autoencoder, measured
from cfdiff.models.checkpoint import Model
from cfdiff.models.space import in_parts
from cfdiff.train.validate import draw_grid

SHOWN = 8
LEAST = 8


class ReconstructionValidation:
    """What is measured and drawn at each validation of an autoencoder; where time is short, on a share of the images.

    Images (N, C, H, W) in [-1, 1] are on the network's device: `training` ones scale the latents, the others are
    validated on. `dtype` is that of saved images, which are what is measured.
    """

    def __init__(
        self,
        training: Tensor,
        images: Tensor,
        dtype: np.dtype,
        pixel_loss: Callable[[Tensor, Tensor], Tensor],
        judge: Model | None,
        folder: Path,
    ) -> None:
        self.training, self.images, self.dtype, self.pixel_loss = training, images, dtype, pixel_loss
        self.judge, self.folder = judge, folder

    @torch.no_grad()
    def __call__(self, net: nn.Module, step: int, share: float) -> dict[str, Any]:
        """`val_loss`, `psnr`, `ssim`, with a judge `verdicts_kept`, and `latents`, shift and scale; a picture of
        reconstructions below their originals; `val_images` where not all were taken."""
        assert isinstance(net, Autoencoder)
        n, m = self._counts(share)
        x = self.images[:n]
        back = in_parts(lambda some: net.decode(net.encode(some)), x)
        before, after = to_saved(x, self.dtype), to_saved(back, self.dtype)
        figures: dict[str, Any] = {"val_loss": float(self.pixel_loss(back, x))}
        figures |= fidelity(unit(before), unit(after))
        if self.judge is not None:
            seen = [self._verdicts(images, x.device) for images in (before, after)]
            figures["verdicts_kept"] = float((seen[0] == seen[1]).mean())
        figures["latents"] = measured(in_parts(net.encode, self.training[:m]))
        picture = pairs(to_saved(x, np.uint8), to_saved(back, np.uint8))
        draw_grid(picture, self.folder / f"images-{step:06d}.png", min(SHOWN, n))
        return figures if share >= 1 else {**figures, "val_images": n}

    def passes(self, share: float) -> int:
        """Images through the network: there and back, and those that are only encoded."""
        n, m = self._counts(share)
        return 2 * n + m

    def _counts(self, share: float) -> tuple[int, int]:
        """Images of the validation, and of the scale of the latents."""
        count = lambda images: min(len(images), max(LEAST, int(share * len(images))))  # noqa: E731
        return count(self.images), count(self.training)

    def _verdicts(self, images: np.ndarray, device: torch.device) -> np.ndarray:
        """(N,) the class that the judge sees in stored images."""
        assert self.judge is not None
        net = self.judge.net.to(device)
        return in_parts(lambda x: net(x).argmax(1), to_model(images).to(device)).cpu().numpy()


def pairs(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Rows of at most `SHOWN` originals, each with a row of their reconstructions below; (M, H, W, C)."""
    columns = min(SHOWN, len(before))
    starts = range(0, min(len(before), 2 * SHOWN) - columns + 1, columns)
    return np.concatenate([stage[i : i + columns] for i in starts for stage in (before, after)])
