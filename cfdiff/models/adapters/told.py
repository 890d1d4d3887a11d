"""What a foreign class-conditional network is told for our condition: 0 negative, 1 positive, -1 nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cfdiff.errors import UserError


@dataclass(frozen=True)
class Told:
    """The indices of a network's own classes.

    Attributes:
        classes: those of negative and positive; None where no class of its is ours, and it is always told nothing.
        nothing: that of the "null" class, which it learned with the class left out; None where it has none.
        known: how many it has, without a null class that is beyond them.
    """

    classes: tuple[int, int] | None
    nothing: int | None
    known: int = 2

    def labels(self, condition: Tensor | None, like: Tensor) -> Tensor:
        """(B,) int64 for a condition (B,) int64, or None for nothing; `like` (B, ...) gives B and the device.

        Raises:
            UserError: a network without a null class is told nothing.
        """
        if condition is None:
            condition = like.new_full((len(like),), -1, dtype=torch.int64)
        if self.nothing is None and bool((condition < 0).any()):
            raise UserError(
                "The diffusion model must always be told a class, for it has none that means nothing: use "
                "--base source."
            )
        classes = self.classes or (0, 0)
        index = torch.tensor([*classes, -1 if self.nothing is None else self.nothing], device=like.device)
        return index[condition.to(like.device)]

    @property
    def conditional(self) -> bool:
        """Whether it may be told a class of ours."""
        return self.classes is not None


def check_classes(classes: tuple[int, int] | None, nothing: int | None, n: int, who: str) -> None:
    """Raise UserError where indices are not of n different classes; `who` says whose they are."""
    for index in (*(classes or ()), *(() if nothing is None else (nothing,))):
        if not 0 <= index < n:
            raise UserError(f"{who} has the classes 0 to {n - 1}, and no class {index}: give others.")
    if classes is not None and len({*classes, nothing}) < 3:
        raise UserError(f"{who} needs three different indices for negative, positive and nothing: give others.")
