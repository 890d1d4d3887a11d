"""How much of an image is left after a round trip."""

from __future__ import annotations

import numpy as np

from cfdiff.metrics import minimality


def fidelity(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Mean PSNR in dB, an image's from its own mean squared error, and mean SSIM; (N, H, W, C) in [0, 1]."""
    error = np.square(after - before, dtype=np.float64).mean(axis=(1, 2, 3))
    psnr = -10 * np.log10(np.maximum(error, 1e-10))
    return {"psnr": float(psnr.mean()), "ssim": float(minimality.ssim(before, after).mean())}
