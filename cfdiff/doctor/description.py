"""Is a classifier that somebody else made described truly? Each other normalisation and direction, on labelled images.

A wrong one is the commonest fault of a borrowed classifier, and a silent one: it goes on to answer, only worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from scipy.stats import binomtest  # type: ignore[import-untyped]

from cfdiff.doctor.classifiers import balanced, right, turn_classes
from cfdiff.doctor.context import Context
from cfdiff.doctor.lines import Line
from cfdiff.models.description import NORMALISATIONS, Description
from cfdiff.models.foreign import Foreign, foreign_members
from cfdiff.roles import CLASSIFIERS

BETTER = 0.1
"""By how much another description must do better in balanced accuracy,"""
SURE = 0.01
"""and how improbable that must be by luck (sign test over the images on which the two part)."""


@dataclass(frozen=True)
class Reading:
    """What a classifier says of the images under one description: hits (N,), and the mean log p of the true class."""

    net: Foreign
    turned: bool
    hits: np.ndarray
    accuracy: float
    log_p: float


def descriptions(context: Context) -> list[Line]:
    """Each described classifier as it is described against all other normalisations, either way round."""
    lines = []
    for role in (role for role in CLASSIFIERS if role in context.fitting):
        nets = foreign_members(context.fitting[role])
        lines += [_line(context, role if len(nets) == 1 else f"{role} {net.name}", net) for net in nets]
    return lines


def _line(context: Context, who: str, net: Foreign) -> Line:
    """`direction` says which way round it is; here the better way of each normalisation counts."""
    own = _better(read(context, net))
    fitting = [name for name, values in NORMALISATIONS.items() if max(map(len, values)) <= net.config.channels]
    named = {name: net.described(normalisation=name) for name in fitting if not _same(name, net.description)}
    others = {name: _better(read(context, other)) for name, other in named.items()}
    name, best = max(others.items(), key=lambda item: (item[1].accuracy, item[1].log_p))
    shown = net.description.normalisation
    figure = (
        f"balanced accuracy {own.accuracy:.2f} with {shown if isinstance(shown, str) else 'its mean and std'}, "
        + ", ".join(f"{reading.accuracy:.2f} with {other}" for other, reading in others.items())
    )
    found = {"described": own.accuracy} | {other: reading.accuracy for other, reading in others.items()}
    if best.accuracy - own.accuracy < BETTER or _luck(own.hits, best.hits) >= SURE:
        return Line(f"normalisation ({who})", "ok", figure, values=found)
    advice = f'Write normalisation = "{name}" into {net.where}'
    advice += f". {turn_classes([net])}" if best.turned else "."
    return Line(f"normalisation ({who})", "fail", figure, advice, found)


def read(context: Context, net: Foreign) -> list[Reading]:
    """It on the clean images, and the same with the two classes exchanged."""
    logits = context.batches(net, context.x0)
    log_p = F.log_softmax(logits.float(), dim=1).cpu().numpy()
    readings = []
    for turned in (False, True):
        hits = right(context, logits, opposite=turned)
        labels = 1 - context.labels if turned else context.labels
        mean = float(log_p[np.arange(len(labels)), labels].mean())
        readings.append(Reading(net, turned, hits, balanced(context, hits), mean))
    return readings


def _better(readings: Sequence[Reading]) -> Reading:
    return max(readings, key=lambda reading: (reading.accuracy, reading.log_p))


def _luck(own: np.ndarray, other: np.ndarray) -> float:
    """The probability that `other` wins so often where the two part, were they equally good."""
    wins, losses = int((other & ~own).sum()), int((own & ~other).sum())
    return 1.0 if wins + losses == 0 else float(binomtest(wins, wins + losses, alternative="greater").pvalue)


def _same(name: str, told: Description) -> bool:
    pairs = zip(NORMALISATIONS[name], told.mean_std, strict=True)
    return all(np.allclose(np.broadcast_to(a, 3), np.broadcast_to(b, 3), rtol=0, atol=1e-3) for a, b in pairs)
