"""From the embeddings of a bag to its score and the attention on each instance: torchmil's own models, behind one face.

torchmil is the extra `mil`; it is imported when a bag model is built, here and nowhere else.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.errors import UserError, first_line


class Pooling(nn.Module):
    """Embeddings (V, n, d) of V bags of n instances -> score (V,), a logit, and attention (V, n), of sum 1.

    Every parameter that learns takes part in the score and in the own loss: among several processes each waits for the
    gradient of every one. What a model holds and does not use, it freezes.

    `apart` says that the attention on an instance, up to the sum over the bag, hangs on that instance alone.
    """

    apart = False

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Score and attention."""
        raise NotImplementedError

    def own_loss(self, embedding: Tensor, label: Tensor) -> Tensor:
        """What torchmil trains this model with, all its terms added, for bags of class `label` (V,), 0 or 1."""
        _, terms = self.net.compute_loss(label.float(), embedding)
        return torch.stack(list(terms.values())).sum()


class AbMil(Pooling):
    """torchmil.models.ABMIL (Ilse et al. 2018)."""

    apart = True

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(_built("ABMIL", in_shape=(width,), **kwargs))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pooling`."""
        score, raw = self.net(embedding, return_att=True)
        return score, raw.softmax(1)


class TransMil(Pooling):
    """torchmil.models.TransMIL (Shao et al. 2021); its attention is that of the class token, renormalised."""

    def __init__(self, width: int, **kwargs: Any) -> None:
        sizes = {"att_dim": width, "n_heads": 4, "n_landmarks": max(8, width // 2)}
        super().__init__(_built("TransMIL", in_shape=(width,), **(sizes | kwargs)))
        for layer in self.net.modules():
            if getattr(layer, "use_mlp", True) is False:
                layer.norm2.requires_grad_(False)  # it stands before an MLP that is not there (see `Pooling`)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pooling`."""
        score, raw = self.net(embedding, return_att=True)
        share = raw.clamp(min=0)  # the Nystroem approximation of a softmax may go below 0
        return score, share / share.sum(1, keepdim=True).clamp(min=1e-8)


class DsMil(Pooling):
    """torchmil.models.DSMIL (Li et al. 2021); its score is the mean of its two streams, as torchmil predicts."""

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(_built("DSMIL", in_shape=(width,), **kwargs))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pooling`."""
        score, attention, instances = self.net(embedding, return_att=True, return_inst_pred=True)
        return 0.5 * (score + instances.amax(1)), attention.squeeze(-1)


class _Linear(Pooling):
    """A pool of torchmil.nn without attention, and a linear layer, trained with the binary cross-entropy."""

    pool = ""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 1))
        self.pooled = getattr(_torchmil("nn"), self.pool)()

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pooling`."""
        return self.net(self.pooled(embedding)).squeeze(1), self.shares(embedding)

    def shares(self, embedding: Tensor) -> Tensor:
        """(V, n) how much of the pool is each instance's."""
        raise NotImplementedError

    def own_loss(self, embedding: Tensor, label: Tensor) -> Tensor:
        """See `Pooling`."""
        return nn.functional.binary_cross_entropy_with_logits(self(embedding)[0], label.float())


class MeanPooling(_Linear):
    """torchmil.nn.MeanPool: every instance has the same share."""

    pool = "MeanPool"
    apart = True

    def shares(self, embedding: Tensor) -> Tensor:
        """See `_Linear`."""
        return embedding.new_full(embedding.shape[:2], 1 / embedding.shape[1])


class MaxPooling(_Linear):
    """torchmil.nn.MaxPool: the share of an instance is that of the dimensions in which it is the highest."""

    pool = "MaxPool"

    def shares(self, embedding: Tensor) -> Tensor:
        """See `_Linear`."""
        highest = (embedding == embedding.amax(1, keepdim=True)).to(embedding)
        return (highest / highest.sum(1, keepdim=True)).mean(2)


def _torchmil(part: str) -> Any:
    try:
        return importlib.import_module(f"torchmil.{part}")
    except ImportError as error:
        raise UserError("Bag models are those of torchmil, which is not there: pip install 'cfdiff[mil]'.") from error


def _built(name: str, **kwargs: Any) -> nn.Module:
    if wrong := sorted(set(kwargs) & {"feat_ext", "criterion"}):
        raise UserError(f"The argument {wrong[0]!r} of {name} is a network, not a number: leave it out of --kwargs.")
    try:
        return getattr(_torchmil("models"), name)(**kwargs)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UserError(f"torchmil cannot build {name} with these --kwargs: {first_line(error)}.") from error
