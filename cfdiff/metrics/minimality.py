"""Minimal: how much of the image was changed, from the saved values.

Images (B, H, W, C) in [0, 1]. Every function gives one value an image, (B,).
"""

from __future__ import annotations

import numpy as np
from skimage.measure import label
from skimage.metrics import structural_similarity

EPS = 4 / 255
# Half a step of 16 bits is 7.6e-6: a change of exactly eps in stored values is never above eps by float32 rounding.
_ROUNDING = 1e-6
_WINDOW = 11


def mean_abs(source: np.ndarray, cf: np.ndarray) -> np.ndarray:
    """Mean |difference| over pixels and channels, (B,) in [0, 1]; lower is less change."""
    return np.abs(_difference(source, cf)).mean(axis=(1, 2, 3))


def l2(source: np.ndarray, cf: np.ndarray) -> np.ndarray:
    """Euclidean distance: the root of the SUM (no mean) of the squared differences, (B,) in [0, sqrt(HWC)].

    It grows with the size of the image; compare it between runs on images of one size only.
    """
    return np.sqrt(np.square(_difference(source, cf)).sum(axis=(1, 2, 3)))


def ssim(source: np.ndarray, cf: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004), (B,) in [-1, 1], 1 for equal images; higher is less change.

    The paper's setting by scikit-image: Gaussian window of sigma 1.5 cut at 11 pixels, K1 = 0.01, K2 = 0.03, range 1,
    population covariance; the mean over channels and over the pixels whose window lies inside. Of an image with a side
    under 11 pixels, the largest odd window that fits decides which pixels these are, and the Gaussian is mirrored.
    """
    side = min(source.shape[1:3])
    window = min(_WINDOW, side - 1 + side % 2)
    setting = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pairs = zip(source.astype(np.float64), cf.astype(np.float64), strict=True)
    return np.array([structural_similarity(a, b, win_size=window, channel_axis=-1, **setting) for a, b in pairs])


def changed(source: np.ndarray, cf: np.ndarray, eps: float = EPS) -> np.ndarray:
    """(B, H, W) bool: the pixels of which some channel changed by more than eps (4 of 255 grey levels)."""
    return np.abs(_difference(source, cf)).max(axis=-1) > eps + _ROUNDING


def changed_share(source: np.ndarray, cf: np.ndarray, eps: float = EPS) -> np.ndarray:
    """Share of `changed` pixels, (B,) in [0, 1]; lower is less change."""
    return changed(source, cf, eps).mean(axis=(1, 2))


def changed_regions(source: np.ndarray, cf: np.ndarray, eps: float = EPS) -> np.ndarray:
    """Number of 8-connected regions of `changed` pixels, (B,) int; fewer is easier to read."""
    return np.array([label(mask, connectivity=2).max() for mask in changed(source, cf, eps)], dtype=np.int64)


def _difference(source: np.ndarray, cf: np.ndarray) -> np.ndarray:
    return cf.astype(np.float64) - source
