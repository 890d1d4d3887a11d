"""Where: does the difference map point at the lesion that a mask marks?

scores (B, H, W) >= 0, from `difference_map` or any saliency; masks (B, H, W) bool. An EMPTY mask belongs to an image
without a lesion, and each function says what it makes of one. Foreground is everywhere what lies strictly above a
threshold, so that a map of zeros marks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.filters import gaussian, threshold_otsu
from sklearn.metrics import average_precision_score, roc_auc_score

from cfdiff.metrics.intervals import Interval, group_weights, over, widened


def difference_map(difference: np.ndarray, sigma: float = 0.0, relative: bool = False) -> np.ndarray:
    """(B, H, W) >= 0: the mean over channels of |difference| (B, H, W, C), then a Gaussian of `sigma` pixels (0: none).

    Smoothing helps maps of single pixels against masks drawn by hand. `relative` divides each map by its own highest
    value, so that pooled figures and thresholds do not follow how strongly an image was edited; a map of zeros stays.
    Say either beside the figure, and choose them on validation data.
    """
    scores = np.abs(difference.astype(np.float64)).mean(axis=-1)
    scores = np.stack([gaussian(image, sigma, mode="nearest") for image in scores]) if sigma > 0 else scores
    return to_one(scores) if relative else scores


def to_one(scores: np.ndarray) -> np.ndarray:
    """Each map (B, H, W) >= 0 divided by its own highest value; a map of zeros stays."""
    highest = scores.max(axis=(1, 2), keepdims=True)
    return scores / np.where(highest > 0, highest, 1)


def prevalence(masks: np.ndarray) -> float:
    """Share of lesion pixels of all pixels, in [0, 1]: the AUPRC that chance has."""
    return float(masks.mean())


def auprc(scores: np.ndarray, masks: np.ndarray) -> float:
    """Area under the precision-recall curve over all pixels pooled, as scikit-learn's average precision, in [0, 1].

    Higher is better; chance is `prevalence`, so it compares between maps on the same masks only. Images with empty
    masks take part: what their maps mark is false. NaN where no pixel at all is marked.
    """
    return float(average_precision_score(masks.ravel(), scores.ravel())) if masks.any() else float("nan")


def auroc(scores: np.ndarray, masks: np.ndarray) -> float:
    """Area under the ROC curve over all pixels pooled, in [0, 1]; chance is 0.5, higher is better.

    Empty masks take part. NaN where the masks are all empty or all full. With few lesion pixels it looks high for maps
    of little use: read it beside `auprc`.
    """
    mixed = masks.any() and not masks.all()
    return float(roc_auc_score(masks.ravel(), scores.ravel())) if mixed else float("nan")


def auprc_per_image(scores: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """`auprc` of every image, (B,); NaN for an empty mask, to be left out of a mean (np.nanmean)."""
    return np.array([auprc(s, m) for s, m in zip(scores, masks, strict=True)])


def pooled_intervals(
    scores: np.ndarray,
    masks: np.ndarray,
    groups: np.ndarray | Sequence[str] | None = None,
    n_boot: int = 2000,
    seed: int = 0,
    bins: int = 1000,
) -> tuple[Interval, Interval] | tuple[None, None]:
    """Bootstrap 95 % intervals of the pooled AUPRC and AUROC, in [0, 1], resampling images, or groups of them (B,).

    A draw would sort millions of pixels anew; so they are counted once, by image, in bins that hold equally many
    lesion pixels: with at most `bins` distinct lesion values every draw is exact, else a pixel is off by its bin.
    None for fewer than two groups with lesions.
    """
    members = np.asarray(groups) if groups is not None and over(groups) == "groups" else np.arange(len(scores))
    if len(np.unique(members[masks.any(axis=(1, 2))])) < 2:
        return None, None
    inside, outside = _histograms(scores, masks, bins)
    weights = np.array([np.ones(len(scores)), *group_weights(len(scores), groups, n_boot, seed)], np.float64)
    precision, roc = (
        widened(area[0], area[1:], len(scores), groups, (0, 1)) for area in _areas(weights @ inside, weights @ outside)
    )
    return precision, roc


def dice(pred: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Dice 2 |P and M| / (|P| + |M|) of every image, (B,) in [0, 1]; higher is better. pred (B, H, W) bool.

    Empty masks: 1 if nothing is predicted either, 0 if anything is.
    """
    both = 2 * (pred & masks).sum(axis=(1, 2))
    total = pred.sum(axis=(1, 2)) + masks.sum(axis=(1, 2))
    return np.where(total > 0, both / np.maximum(total, 1), 1.0)


def above(scores: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    """(B, H, W) bool: strictly above the threshold, one for all or one an image (B,)."""
    return scores > np.reshape(threshold, (-1, 1, 1))


def otsu_threshold(scores: np.ndarray) -> np.ndarray:
    """Otsu's threshold (1979; scikit-image, 256 bins) of every map alone, (B,): needs no mask.

    It always parts a map in two, so it marks something also where there is no lesion; nothing in a constant map.
    """
    return np.array([threshold_otsu(image) for image in scores], dtype=np.float64)


def best_threshold(scores: np.ndarray, masks: np.ndarray, candidates: int = 400) -> float:
    """The ORACLE: the one threshold for all maps that has the highest mean Dice over the non-empty masks.

    On test data this is a ceiling, no result; fixed on validation data it is an honest threshold. Searched over the
    quantiles of the pooled scores that mark from one pixel to all, each a few per cent more pixels than the one before
    (400 candidates); ties go to the highest threshold. NaN where every mask is empty.
    """
    filled = masks.any(axis=(1, 2))
    if not filled.any():
        return float("nan")
    marked = np.geomspace(1 / scores.size, 1, candidates)
    thresholds = np.unique(np.quantile(scores, 1 - marked))[::-1]
    total = np.zeros(len(thresholds))
    for image, mask in zip(scores[filled], masks[filled], strict=True):
        hits = mask.sum() - np.searchsorted(np.sort(image[mask]), thresholds, side="right")
        size = image.size - np.searchsorted(np.sort(image, axis=None), thresholds, side="right")
        total += 2 * hits / (size + mask.sum())
    return float(thresholds[total.argmax()])


def pointing_game(scores: np.ndarray, masks: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Pointing game (Zhang et al. 2016), (B,): 1 where the highest score lies in the mask, 0 where not; mean it.

    `tolerance`: so many pixels beside the mask count too (the paper: 15, on photographs). Ties go to the first pixel by
    row. A map without any score above zero points nowhere: 0. NaN for an empty mask, to be left out (np.nanmean).
    """
    hits = np.full(len(scores), np.nan)
    for i in np.flatnonzero(masks.any(axis=(1, 2))):
        point = np.unravel_index(scores[i].argmax(), scores[i].shape)
        distance = np.linalg.norm(np.argwhere(masks[i]) - point, axis=1).min()
        hits[i] = float(scores[i][point] > 0 and distance <= tolerance)
    return hits


def _histograms(scores: np.ndarray, masks: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Lesion and other pixels of every image (B, at most 2 bins + 1) by score, from high to low."""
    lesion = np.unique(scores[masks])
    edges = lesion if len(lesion) <= bins else np.unique(np.quantile(scores[masks], np.linspace(0, 1, bins)))
    edges = np.union1d(edges, np.nextafter(edges, np.inf))  # a lesion value ties with no other than its equal
    size = len(edges) + 1
    place = np.searchsorted(edges, scores, side="right")
    count = [
        [np.bincount(p[m == part], minlength=size) for p, m in zip(place, masks, strict=True)] for part in (True, False)
    ]
    # As floats, in one block: the product with the weights of the draws is then a matter of BLAS.
    inside, outside = np.ascontiguousarray(np.array(count, np.float64)[:, :, ::-1])
    return inside, outside


def _areas(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUPRC and AUROC (n,) of weighted counts (n, bins) from high to low; NaN where a class is not there."""
    true, false = inside.cumsum(axis=1), outside.cumsum(axis=1)
    positives, negatives = true[:, -1], false[:, -1]
    with np.errstate(invalid="ignore"):
        precision = (inside * true / np.maximum(true + false, 1)).sum(axis=1) / positives
        roc = (inside * (negatives[:, None] - false + outside / 2)).sum(axis=1) / (positives * negatives)
    return precision, roc
