"""Is the change smooth or grainy? How much of its energy lies in frequencies that only noise has much of."""

from __future__ import annotations

import numpy as np

from cfdiff.metrics.pair import Metric

HALF_NYQUIST = 0.25
"""In cycles a pixel; the Nyquist frequency is 0.5."""


def high_frequency_share(difference: np.ndarray) -> np.ndarray:
    """Share of the energy of signed differences (B, H, W, C) above half the Nyquist frequency, (B,) in [0, 1].

    The frequency of a bin of the 2-D discrete Fourier transform is radial, sqrt(fy^2 + fx^2) in cycles a pixel, so
    corners count as above. The energies |F|^2 are averaged over channels (not the differences, which could cancel);
    by Parseval's theorem all bins together are H W times the sum of squares. The scale of the difference does not
    matter. White noise has about its share of the bins, 1 - pi / 16 = 0.80. NaN where nothing changed.
    """
    difference = np.asarray(difference, np.float64)
    _, height, width, _ = difference.shape
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    energy = (np.abs(np.fft.fft2(difference, axes=(1, 2))) ** 2).mean(axis=3)
    high, total = energy[:, radius > HALF_NYQUIST].sum(axis=1), energy.sum(axis=(1, 2))
    changed = difference.any(axis=(1, 2, 3))
    return np.divide(high, total, out=np.full(len(total), np.nan), where=changed)


HIGH_FREQUENCY = Metric(
    "energy of the change above half the Nyquist frequency",
    lambda source, cf, s: high_frequency_share(cf.astype(np.float64) - source),
    "lower",
    "share",
    section="noise",
    within=(0, 1),
)
