"""How much of an image is left after a round trip."""

from __future__ import annotations

import numpy as np

from cfdiff.metrics import minimality


def psnr(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """PSNR in dB, (N,), of each image from its own mean squared error, at most 100; (N, H, W, C) in [0, 1]."""
    error = np.square(after - before, dtype=np.float64).mean(axis=(1, 2, 3))
    return -10 * np.log10(np.maximum(error, 1e-10))


def fidelity(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Mean PSNR in dB and mean SSIM; (N, H, W, C) in [0, 1]."""
    return {"psnr": float(psnr(before, after).mean()), "ssim": float(minimality.ssim(before, after).mean())}
