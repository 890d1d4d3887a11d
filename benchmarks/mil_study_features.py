"""One frozen encoder for all arms of the study: contrastive, without any label, on cells of the guide's patients."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cfdiff.data.values import to_model

WIDTH, TEMPERATURE = 64, 0.2
TURNS = 8
"""Elements of the dihedral group: what the arm `augmentation` shows of a cell."""


def new_encoder(channels: int) -> nn.Module:
    """A small residual network (timm), images (R, C, H, W) in [-1, 1] -> (R, WIDTH)."""
    shape = {"channels": [16, 32, 48, WIDTH], "stem_width": 16}
    return timm.create_model("resnet10t", pretrained=False, in_chans=channels, num_classes=0, **shape)


def fitted_encoder(images: np.ndarray, path: Path, steps: int, batch: int = 96) -> nn.Module:
    """The encoder of the study: that of `path`, or trained on images (N, H, W, C) uint8 and kept there.

    SimCLR (Chen et al. 2020): two views of an image are near, those of others far.
    """
    torch.manual_seed(0)
    net, head = new_encoder(images.shape[3]), nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 64))
    if path.exists():
        net.load_state_dict(load_file(path))
        return net.eval()
    learned = [*net.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(learned, 1e-3, weight_decay=1e-4)
    fall = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda k: min(1, (k + 1) / 50) * 0.5 * (1 + math.cos(math.pi * k / steps))
    )
    rng = np.random.default_rng(0)
    net.train()
    for step in range(steps):
        x = to_model(images[np.sort(rng.choice(len(images), batch, replace=False))])
        z = F.normalize(head(net(torch.cat([view(x), view(x)]))), dim=1)
        likeness = z @ z.T / TEMPERATURE - 1e9 * torch.eye(2 * batch)
        loss = F.cross_entropy(likeness, torch.arange(2 * batch).roll(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        fall.step()
        if step % 100 == 0:
            print(f"encoder: step {step}, loss {loss.item():.3f}", flush=True)
    scratch = path.with_suffix(".part")
    save_file(net.state_dict(), scratch)
    scratch.replace(path)
    return net.eval()


def view(x: Tensor) -> Tensor:
    """Turned by any angle, mirrored, cut to 70-100 % of a side, brighter, of other contrast; each for itself."""
    n = len(x)
    angle, size = 2 * math.pi * torch.rand(n), 0.7 + 0.3 * torch.rand(n)
    mirror = torch.randint(0, 2, (n,)) * 2 - 1.0
    shift = (1 - size)[:, None] * (2 * torch.rand(n, 2) - 1)
    cos, sin = size * angle.cos(), size * angle.sin()
    rows = [[cos * mirror, -sin, shift[:, 0]], [sin * mirror, cos, shift[:, 1]]]
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    turned = F.grid_sample(x + 1, grid, align_corners=False) - 1  # outside is black
    inside = (turned > -0.95).to(x)
    contrast, brightness = 0.7 + 0.6 * torch.rand(n, 1, 1, 1), 0.3 * (2 * torch.rand(n, 1, 1, 1) - 1)
    mean = (turned * inside).sum((1, 2, 3), keepdim=True) / inside.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return (turned + inside * ((contrast - 1) * (turned - mean) + brightness)).clamp(-1, 1)


@torch.no_grad()
def features(net: nn.Module, images: np.ndarray, turn: int = 0) -> np.ndarray:
    """(N, WIDTH) float32 of images (N, H, W, C), turned by one of `TURNS` (0: as they are)."""
    turned = np.rot90(images, turn % 4, axes=(1, 2))
    turned = np.ascontiguousarray(turned[:, :, ::-1] if turn >= 4 else turned)
    return np.concatenate([net(to_model(turned[i : i + 256])).numpy() for i in range(0, len(turned), 256)])
