"""Realistic: do the counterfactuals, as a set, look like real images of the target class to some network?

Features (N, D) of any network: say which beside every figure ("FID (features of NAME)"); plain FID and KID mean those
of Inception v3. Lower is better, and no figure means anything without the same one for real against real images.

FID is biased upwards, the more the fewer the images (Chong and Forsyth 2020), and below D + 1 images the covariance has
not even full rank: two figures compare only at the same number of images on both sides. `against_real`, `sfid` and
`real_against_real` take that number, n, and draw exactly so many. KID is unbiased.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.preprocessing import normalize
from torchmetrics.image.kid import KernelInceptionDistance

Metric = Callable[[np.ndarray, np.ndarray], float]
"""Features (n, D) and (n, D) -> a distance of the sets, such as `fid`."""


class Repeated(NamedTuple):
    """A figure over random draws: what varies is the draw, so `std` is no interval for other data."""

    mean: float
    std: float
    n: int
    """Images on each side of every single figure."""


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to two feature sets (Heusel et al. 2017), >= 0, 0 for equal sets.

    |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)) with S = A^T A for the centred features A (N, D) over
    sqrt(N - 1). As S_a S_b has the eigenvalues of (A B^T)(A B^T)^T, the trace of its root is the sum of the singular
    values of A B^T: exact for singular S too, and quick where D is large beside N, unlike a D x D matrix root.
    Needs two images on each side.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    root_a, root_b = _root(a), _root(b)
    shift = a.mean(axis=0) - b.mean(axis=0)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap))


def kid(
    a: np.ndarray, b: np.ndarray, subsets: int = 100, subset_size: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """Kernel distance (Binkowski et al. 2018): unbiased MMD^2 with the kernel (x.y / D + 1)^3, by torchmetrics.

    Mean and std over `subsets` random subsets of `subset_size` images of each side, by default half of the smaller
    side, 1,000 at most (as in the paper): with all of them every subset were the same, and std 0. It can be below 0,
    around which it lies for images of one distribution. Needs four images on each side.
    """
    size = min(1000, len(a) // 2, len(b) // 2) if subset_size is None else subset_size
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save")
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=subsets, subset_size=size)
        metric.update(torch.from_numpy(np.asarray(a, np.float64)), real=True)
        metric.update(torch.from_numpy(np.asarray(b, np.float64)), real=False)
        mean, std = metric.compute()
    return float(mean), float(std)


def sfid(
    real: np.ndarray,
    cf: np.ndarray,
    repeats: int = 10,
    seed: int = 0,
    n: int | None = None,
    paired: bool = False,
    metric: Metric = fid,
) -> Repeated:
    """sFID (Jeanneret et al. 2023, ACE): counterfactuals of one random half against real images of the other.

    Each of `repeats` times both sets are shuffled and cut into halves of n (by default half of the smaller set), and
    FID(real half 1, counterfactual half 2) and FID(real half 2, counterfactual half 1) are averaged. `paired`: real[i]
    is the source of cf[i], as in the paper; then both sets are shuffled alike, so that no counterfactual meets its own
    source, to which it is trivially near. Where `real` are other images, there are no pairs. The same figure
    for real images in two halves: `real_against_real(real, n=result.n)`.
    """
    size = min(len(real), len(cf)) // 2 if n is None else n

    def both(g: np.random.Generator) -> float:
        order = g.permutation(len(real))
        other = order if paired else g.permutation(len(cf))
        first, second = slice(size), slice(size, 2 * size)
        return (metric(real[order[first]], cf[other[second]]) + metric(real[order[second]], cf[other[first]])) / 2

    return _repeat(both, size, repeats, seed)


def against_real(
    real: np.ndarray, cf: np.ndarray, n: int | None = None, repeats: int = 10, seed: int = 0, metric: Metric = fid
) -> Repeated:
    """The metric of n random counterfactuals against n random real images, repeated.

    n by default as many as `real_against_real` can have too: the smaller of len(cf) and len(real) / 2. With the same n
    and seed both have the same real images on one side, so the difference of the two figures is that of the other.
    """
    size = min(len(cf), len(real) // 2) if n is None else n

    def once(g: np.random.Generator) -> float:
        return metric(real[g.permutation(len(real))[:size]], cf[g.permutation(len(cf))[:size]])

    return _repeat(once, size, repeats, seed)


def real_against_real(
    real: np.ndarray, n: int | None = None, repeats: int = 10, seed: int = 0, metric: Metric = fid
) -> Repeated:
    """The metric of n random real images against n others, repeated: the best that counterfactuals can have at this n.

    n by default half of the images, which is the most.
    """
    size = len(real) // 2 if n is None else n

    def once(g: np.random.Generator) -> float:
        order = g.permutation(len(real))
        return metric(real[order[:size]], real[order[size : 2 * size]])

    return _repeat(once, size, repeats, seed)


def cosine_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) in [-1, 1]: the cosine of each row of a (N, D) with that of b; higher is nearer. 0 if a row is all zeros.

    With features of source and counterfactual this is what S3 is (Jeanneret et al. 2023, ACE), but for the network: S3
    has SimSiam's (Chen and He 2021). Features after a ReLU are never negative: their cosine is high for any two images.
    """
    return (normalize(np.asarray(a, np.float64)) * normalize(np.asarray(b, np.float64))).sum(axis=1)


def _repeat(figure: Callable[[np.random.Generator], float], n: int, repeats: int, seed: int) -> Repeated:
    figures = [figure(np.random.default_rng([seed, i])) for i in range(repeats)]
    return Repeated(float(np.mean(figures)), float(np.std(figures)), n)


def _root(features: np.ndarray) -> np.ndarray:
    """A with A^T A the covariance of features (N, D): at most D rows, because a QR keeps A^T A."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.linalg.qr(centred).R if len(features) > features.shape[1] else centred
