"""How often a model says of real images what they are: what its word on an edited image is worth at best."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from cfdiff.errors import UserError
from cfdiff.metrics.intervals import over, share_interval


@dataclass(frozen=True)
class Recall:
    """Of real held-out images of the class asked for, the share on which a model says that class.

    Attributes:
        share: in [0, 1].
        n: images.
        low, high: of its 95 % interval.
        over: what the interval is over.
    """

    share: float
    n: int
    low: float
    high: float
    over: Literal["groups", "images"]

    def __str__(self) -> str:
        return f"{self.share:.1%} of {self.n} real images"

    def as_json(self) -> dict[str, Any]:
        """As the root attribute `recall` of a result holds it, by role."""
        return asdict(self)


def recall_of(hits: np.ndarray, groups: np.ndarray | None) -> Recall:
    """From whether a model knew each image, (N,) bool, N >= 1, and the groups (N,) of the images."""
    low, high = share_interval(hits, groups)
    return Recall(float(hits.mean()), len(hits), low, high, over(groups))


def read_recall(stored: Any, where: str) -> dict[str, Recall]:
    """Role -> recall, of the root attribute of the file `where`; empty for a file that has none.

    Raises:
        UserError: it says something else.
    """
    try:
        found = {role: Recall(**values) for role, values in (stored or {}).items()}
    except (AttributeError, TypeError) as error:
        raise UserError(f"{where} has a 'recall' that cannot be read: run the command that made it again.") from error
    numbers = (number for one in found.values() for number in (one.share, one.n, one.low, one.high))
    if not all(isinstance(number, int | float) for number in numbers):
        raise UserError(f"{where} has a 'recall' that is no number: run the command that made it again.")
    return found
