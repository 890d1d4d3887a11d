"""Pixel values: as stored on disk, in [0, 1], and in [-1, 1] as the networks take them."""

from __future__ import annotations

import numpy as np
import torch


def _full_scale(dtype: np.dtype | type) -> float:
    """The value of a pixel at full brightness: 255, 65535 or 1.0."""
    dtype = np.dtype(dtype)
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def unit(images: np.ndarray) -> np.ndarray:
    """Stored images of any shape as float32 in [0, 1]."""
    return (images / np.float64(_full_scale(images.dtype))).astype(np.float32)


def mean_change(source: np.ndarray, counterfactual: np.ndarray) -> np.ndarray:
    """(B,) mean |difference| of stored images (B, H, W, C), in [0, 1] units."""
    return np.abs(unit(counterfactual) - unit(source)).mean(axis=(1, 2, 3))


def to_model(images: np.ndarray) -> torch.Tensor:
    """Stored images (B, H, W, C) as a float32 tensor (B, C, H, W) in [-1, 1]."""
    scaled = images.astype(np.float64) * (2.0 / _full_scale(images.dtype)) - 1.0
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32))


def to_saved(x: torch.Tensor, dtype: np.dtype | type) -> np.ndarray:
    """A finite tensor (B, C, H, W) in [-1, 1] as images (B, H, W, C) of the given dtype.

    Values outside are clamped, integers rounded half to even: the exact inverse of `to_model` for uint8 and
    uint16.
    """
    dtype = np.dtype(dtype)
    unit_range = (x.detach().float().cpu().double().clamp(-1, 1) + 1) / 2
    images = unit_range.permute(0, 2, 3, 1).numpy() * _full_scale(dtype)
    return np.ascontiguousarray(np.rint(images) if dtype.kind == "u" else images).astype(dtype)


def as_saved(images: np.ndarray, x0: torch.Tensor, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The edit x (B, C, H, W) of x0 in the type of `images` (B, H, W, C), and which samples are finite, (B,) bool.

    Where an edit changed nothing, or a sample is not finite (an overflow in half precision, say), the bytes are those
    of `images`. uint8 and uint16 come back from [-1, 1] exactly anyway; float32 does not.
    """
    finite = x.isfinite().flatten(1).all(1)
    x = torch.where(finite.view(-1, 1, 1, 1), x, x0)
    same = (x == x0).permute(0, 2, 3, 1).cpu().numpy()
    return np.where(same, images, to_saved(x, images.dtype)), finite.cpu().numpy()
