"""What a classifier is to ignore: everything that a pair's difference map leaves out.

An entry of registry.INVARIANCES sends the images of one step through the network, in a single pass (so that the batch
norm of several processes stays in step), and gives the logits with a penalty. `relevant` is where the class may stand:
in the map of an accepted pair, outside the map of a rejected one.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cfdiff.errors import UserError
from cfdiff.models.classifier import last_layer
from cfdiff.train.batches import Draws

GRID = 4
"""Points a side of the random field that stands in for what is to be ignored, smooth between them."""
FIELD, CONTRAST = 0.5, 0.5
"""Its standard deviation, in [-1, 1] units, and how far the contrast of what it is added to is drawn from 1."""
FAINT = 1e-12


class Answers(NamedTuple):
    """Logits (R + P, 2) of R other images and P images of pairs, and the penalty, a mean over the latter."""

    logits: Tensor
    penalty: Tensor


class Invariance(Protocol):
    """A way to ask for it."""

    def __call__(self, net: nn.Module, others: Tensor, pairs: Tensor, relevant: Tensor, draws: Draws) -> Answers:
        """Images `others` (R, C, H, W) and `pairs` (P, C, H, W) in [-1, 1], P / 2 sources and then their
        counterfactuals; `relevant` (P, 1, H, W) bool; `draws` of P / 2 rows."""
        ...


def nothing(net: nn.Module, others: Tensor, pairs: Tensor, relevant: Tensor, draws: Draws) -> Answers:
    """No penalty: the classes of the pairs alone."""
    return Answers(net(torch.cat([others, pairs])), pairs.new_zeros(()))


def gradient(net: nn.Module, others: Tensor, pairs: Tensor, relevant: Tensor, draws: Draws) -> Answers:
    """The share of sum over pixels (d m / d x)^2 that is not relevant, m = the difference of the two logits.

    As Ross, Hughes & Doshi-Velez (2017), eq. 1, with two changes. The margin stands in place of the sum of
    log-probabilities, whose gradient fades as the network gets sure, and with it the penalty. And it is a share, in
    [0, 1]: their sum hangs on the number of pixels and on the logits' scale, so no weight of it would do for two data
    sets, and it is least for a network that says nothing.
    """
    asked = pairs.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the quicker kinds of attention have no second derivative
        logits = net(torch.cat([others, asked]))
    margin = (logits[len(others) :, 1] - logits[len(others) :, 0]).float()
    (slope,) = torch.autograd.grad(margin.sum(), asked, create_graph=True)
    energy = slope.float().square()
    outside = (energy * ~relevant).sum(dim=(1, 2, 3))
    return Answers(logits, (outside / (energy.sum(dim=(1, 2, 3)) + FAINT)).mean())


def features(net: nn.Module, others: Tensor, pairs: Tensor, relevant: Tensor, draws: Draws) -> Answers:
    """1 - cos of what the last layer is given for a pair's image and for the same with its irrelevant part varied.

    That part gets another contrast and a smooth random field (`varied`): a way to ask for the invariance of Heinze-Deml
    & Meinshausen (2021, "conditional variance regularization") where no second photograph of the same thing is.
    """
    seen: list[Tensor] = []
    handle = _last_layer(net).register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        logits = net(torch.cat([others, pairs, varied(pairs, relevant, draws)]))
    finally:
        handle.remove()
    first = len(others)
    found = seen[-1].flatten(1).float()
    plain, other = found[first : first + len(pairs)], found[first + len(pairs) :]
    return Answers(logits[: first + len(pairs)], (1 - F.cosine_similarity(plain, other, eps=FAINT)).mean())


def varied(pairs: Tensor, relevant: Tensor, draws: Draws) -> Tensor:
    """Images (P, C, H, W) in [-1, 1] with what is not `relevant` (P, 1, H, W) changed at random, the rest as it was."""
    height, width = pairs.shape[-2:]
    # Each source and its counterfactual get the same field: what differs between them then is the edit alone.
    gain = (1 + CONTRAST * (2 * draws.uniform(1, 1, 1) - 1)).repeat(2, 1, 1, 1)
    field = F.interpolate(draws.normal(1, GRID, GRID), (height, width), mode="bilinear", align_corners=True)
    other = (pairs * gain + FIELD * field.repeat(2, 1, 1, 1)).clamp(-1, 1)
    return torch.where(relevant, pairs, other)


def relevant_part(source: Tensor, edited: Tensor, accepted: Tensor, share: float, grow: int) -> Tensor:
    """(P, 1, H, W) bool: where the class may stand, for images (P, C, H, W) of pairs and `accepted` (P,) bool.

    Args:
        share: pixels belong to the map that change by at least this share of the largest change of their pair, in
            (0, 1]; of colours the most changed channel counts.
        grow: side of the square that the map is dilated by, odd.
    """
    change = (edited - source).abs().amax(dim=1, keepdim=True)
    inside = (change >= share * change.amax(dim=(2, 3), keepdim=True)).float()
    inside = F.max_pool2d(inside, grow, stride=1, padding=grow // 2) > 0
    return torch.where(accepted[:, None, None, None], inside, ~inside)


def _last_layer(net: nn.Module) -> nn.Linear:
    """The layer that makes logits of features, of a classifier that may be wrapped for several processes."""
    inside: Any = getattr(net, "module", net)
    last = last_layer(inside.net)
    if last is None:
        raise UserError(
            f"The last layer of {inside.config.arch!r} is none that gets features: choose another --arch, or "
            "--invariance gradient."
        )
    return last
