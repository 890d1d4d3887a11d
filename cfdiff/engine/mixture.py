"""Counting: the number K of positives in a bag of independent instances is Poisson-binomial.

    d log P(K = k | X) / d l_i = q_i - p_i,      q_i = P(y_i = 1 | K = k, X),      p_i = sigmoid(l_i)

Forward-backward counting in log space, float64, O(n k), on the CPU. F_i(j) = P(K of the first i = j) grows by

    F_i(j) = (1 - p_i) F_{i-1}(j) + p_i F_{i-1}(j - 1)

and G_i(j), the same from the other end, by the same rule. Then

    P(y_i = 1, K = k) = p_i sum_j F_{i-1}(j) G_{i+1}(k - 1 - j)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cfdiff.errors import UserError


def wanted_count(n: int, mix: float) -> int:
    """k = floor(mix n + 1/2): how many of n instances are to be positive for the fraction `mix` in [0, 1].

    `mix` is the decimal that it prints as: 0.29 of 50 is 14.5, and so 15, though the float falls a hair short.
    """
    return math.floor(Fraction(repr(float(mix))) * n + Fraction(1, 2))


def free_count(k: int, n: int, frozen: Sequence[bool] | Tensor) -> int:
    """The count that n free instances must reach for k in the bag: frozen ones leave n and subtract from k.

    Args:
        k: wanted in the whole bag.
        n: free instances, those that may change.
        frozen: for each frozen instance, whether it is positive.

    Returns:
        k less the frozen positives, or the nearest count that n free instances can reach.
    """
    return min(max(k - int(torch.as_tensor(frozen).sum()), 0), n)


def count_log_pmf(logits: Tensor) -> Tensor:
    """log P(K = k) for k = 0..n, (n + 1,) float64, from the logits (n,) of the instances."""
    log_p, log_not_p = _log_probabilities(logits)
    return _grow(_nobody(len(log_p)), log_p, log_not_p)


def count_posterior(logits: Tensor, k: int) -> Tensor:
    """q_i = P(y_i = 1 | K = k, X), (n,) float64 on the device of `logits` (n,); they sum to k.

    Memory is O(k sqrt(n)): the forward rows are kept at every sqrt(n)-th instance and grown again between.

    Raises:
        UserError: k is not in 0..n.
    """
    n = len(logits)
    if not 0 <= k <= n:
        raise UserError(f"A bag of {n} instances cannot have {k} positives; ask for 0 to {n}.")
    if 2 * k > n:  # count the rarer class: fewer columns
        return 1 - count_posterior(-logits, n - k)
    log_p, log_not_p = _log_probabilities(logits)
    if k == 0:
        return torch.zeros_like(log_p).to(logits.device)

    block = math.isqrt(n - 1) + 1
    starts = range(0, n, block)
    kept = [_nobody(k)]  # F at the start of each block
    for start in starts[:-1]:
        kept.append(_grow(kept[-1], log_p[start : start + block], log_not_p[start : start + block]))

    log_joint = torch.empty_like(log_p)  # log P(y_i = 1, K = k)
    log_joint_not = torch.empty_like(log_p)  # log P(y_i = 0, K = k)
    G = _nobody(k)
    for start, F in zip(reversed(starts), reversed(kept), strict=True):
        members = range(start, min(start + block, n))
        rows = [F]
        for i in members[:-1]:
            rows.append(_count_one(rows[-1], log_p[i], log_not_p[i]))
        for i, F_i in zip(reversed(members), reversed(rows), strict=True):
            G_k = G.flip(0)  # G(k - j) at j
            log_joint[i] = log_p[i] + torch.logsumexp(F_i[:-1] + G_k[1:], 0)
            log_joint_not[i] = log_not_p[i] + torch.logsumexp(F_i + G_k, 0)
            G = _count_one(G, log_p[i], log_not_p[i])
    return torch.sigmoid(log_joint - log_joint_not).to(logits.device)


def count_gradient(logits: Tensor, k: int) -> Tensor:
    """d log P(K = k) / d logits = q - p, (n,) float64, without a graph of its own."""
    return count_posterior(logits, k) - torch.sigmoid(logits.detach().double())


def _log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(log p, log (1 - p)), (n,) float64 on the CPU, neither rounded to log 0 nor to log 1 too soon."""
    logits = logits.detach().cpu().double()
    return logsigmoid(logits), logsigmoid(-logits)


def _nobody(k: int) -> Tensor:
    """log P(K = j), j = 0..k, of no instance at all."""
    F = torch.full((k + 1,), -math.inf, dtype=torch.float64)
    F[0] = 0
    return F


def _count_one(F: Tensor, log_p: Tensor, log_not_p: Tensor) -> Tensor:
    """The counts with one more instance, up to the last column of F (k + 1,)."""
    grown = F + log_not_p
    grown[1:] = torch.logaddexp(grown[1:], F[:-1] + log_p)
    return grown


def _grow(F: Tensor, log_p: Tensor, log_not_p: Tensor) -> Tensor:
    """The counts with all the instances of log_p (m,) more."""
    for p, not_p in zip(log_p, log_not_p, strict=True):
        F = _count_one(F, p, not_p)
    return F
