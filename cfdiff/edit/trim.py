"""Where an edit changed an image most, and how little of the change is enough."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, label  # type: ignore[import-untyped]
from torch import Tensor

from cfdiff.data.values import as_saved, to_model, unit
from cfdiff.engine.saliency import place

SHARES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""Shares of the pixels that are tried, before they are dilated; with all of them the edit is what it was."""
GROW = 5
"""Side of the square by which the region is dilated: so the faint ring around a spot that goes, goes too."""

CHANGED = 8 / 255
"""Of the full range: pixels that changed by more belong to a region, the others to the nearest one."""
MOST_REGIONS = 8
"""Of an image; the smaller ones beyond belong to their nearest."""

Sure = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(rows (m,), their images as saved (m, H, W, C)) -> (m,) how sure who accepts is of the class asked for."""


def trimmed(images: np.ndarray, saved: np.ndarray, sure: Sure, wanted: np.ndarray) -> np.ndarray:
    """The edits (n, H, W, C) of `images` with only the most changed region of each in which it is still convincing.

    Guidance pushes a little everywhere, and most of that is not what convinces: the region, with a soft edge, is made
    as small as it may be for `sure` to give at least `wanted` (n,), and what lies outside is the source again, byte for
    byte. The smallest of SHARES is looked for by halving, so it takes three looks; every edit that is returned was
    looked at, or is the one that came. `wanted` must be what the edits that came have. (After the two-stage idea of
    ACE, Jeanneret et al. 2023, who regenerate outside of the thresholded difference; here nothing is drawn again.)
    """
    x, change = to_model(images), to_model(saved) - to_model(images)
    found = saved.copy()
    low, high = np.zeros(len(images), int), np.full(len(images), len(SHARES))  # the answer lies in low..high
    while len(rows := np.flatnonzero(low < high)):
        middle = (low[rows] + high[rows]) // 2
        here = torch.from_numpy(rows)
        region = torch.cat(
            [changed_region(change[i : i + 1], SHARES[k], grow=GROW) for i, k in zip(rows, middle, strict=True)]
        )
        less = as_saved(images[rows], x[here], x[here] + region * change[here])[0]
        enough = sure(rows, less) >= wanted[rows]
        found[rows[enough]] = less[enough]
        high[rows[enough]] = middle[enough]
        low[rows[~enough]] = middle[~enough] + 1
    return found


def without_needless_regions(images: np.ndarray, saved: np.ndarray, sure: Sure, wanted: np.ndarray) -> np.ndarray:
    """The edits (n, H, W, C) of `images` less the regions of change that are not what convinces.

    What is drawn anew in several places is needed in some of them: of the regions the one without which `sure` gives
    most is the source again, byte for byte, as long as that is at least `wanted` (n,) and another one is left. So many
    looks as there are regions and fewer; all images are looked at together.
    """
    found, places = saved.copy(), [regions(*pair) for pair in zip(images, saved, strict=True)]
    open_rows = [i for i, of_image in enumerate(places) if len(of_image) > 1]
    while open_rows:
        rows = np.array([i for i in open_rows for _ in places[i]])
        less = np.stack([np.where(place[..., None], images[i], found[i]) for i in open_rows for place in places[i]])
        told = sure(rows, less)
        for i in list(open_rows):
            here = np.flatnonzero(rows == i)
            best = int(told[here].argmax())
            if told[here[best]] >= wanted[i]:
                found[i] = less[here[best]]
                del places[i][best]
            if told[here[best]] < wanted[i] or len(places[i]) < 2:
                open_rows.remove(i)
    return found


def regions(image: np.ndarray, saved: np.ndarray) -> list[np.ndarray]:
    """A partition of an image's pixels, (H, W) bool each, by the connected regions in which (H, W, C) changed.

    Regions that touch at a corner or lie a pixel apart are one; the largest `MOST_REGIONS` are told apart.
    """
    changed = np.abs(unit(saved) - unit(image)).max(-1) > CHANGED
    near = F.max_pool2d(torch.from_numpy(changed).float()[None], 3, 1, 1)[0].numpy() > 0
    number, n = label(near, np.ones((3, 3)))
    largest = np.argsort(-np.bincount(number.ravel(), minlength=n + 1)[1:], kind="stable")[:MOST_REGIONS] + 1
    kept = np.isin(number, largest)
    nearest = distance_transform_edt(~kept, return_distances=False, return_indices=True)
    owner = number[tuple(nearest)]
    return [owner == k for k in largest]


def changed_region(change: Tensor, share: float, blur: int = 3, grow: int = 3) -> Tensor:
    """(B, 1, H, W) mask in [0, 1] of the `share` most changed pixels of (B, C, H, W), dilated, with a soft edge."""
    size = change.abs().mean(1, keepdim=True)
    size = F.avg_pool2d(size, blur, 1, blur // 2)
    return F.avg_pool2d(place(size, share, grow), blur, 1, blur // 2)
