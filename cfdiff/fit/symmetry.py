"""Which mirror images of a data set look like more of it, measured on the data: what training may augment with."""

from __future__ import annotations

import numpy as np

from cfdiff.engine.symmetry import Symmetry

DIFFERENT = 0.05
"""Energy of (mean image - its mirror image) over the variance of a pixel between images, above which the two ways
round are not alike. Cells, tiles and textures stay below .02; a chest X-ray on its head is at 1 and more."""
GRAIN = 1.25
"""Ratio of the energies of vertical and horizontal differences above which quarter turns are not alike."""


def fitting_augment(images: np.ndarray) -> Symmetry:
    """For images (N, H, W, C) in [0, 1]: "dihedral" where all eight symmetries of a square are alike, "flip" where left
    and right are, else "none". N should be a few hundred: the mean image's own noise is 1/N of the variance."""
    mean = images.mean(0, dtype=np.float64)
    spread = float(images.astype(np.float64).var(0).mean())
    if spread == 0:
        return "none"

    def alike(turned: np.ndarray) -> bool:
        # The mean of N images differs from its mirror image by chance too: twice its own variance.
        chance = 2 * spread / len(images)
        return float(np.square(mean - turned).mean()) - chance <= DIFFERENT * spread

    left_right, up_down = alike(mean[:, ::-1]), alike(mean[::-1])
    if not left_right:
        return "none"
    height, width = mean.shape[:2]
    square = height != width or (alike(mean.transpose(1, 0, 2)) and _grain(images) <= GRAIN)
    return "dihedral" if up_down and square else "flip"


def _grain(images: np.ndarray) -> float:
    """At least 1: the energy of the stronger of vertical and horizontal differences over that of the weaker."""
    down, right = (float(np.square(np.diff(images, axis=axis)).mean()) for axis in (1, 2))
    return max(down, right) / max(min(down, right), 1e-12)
