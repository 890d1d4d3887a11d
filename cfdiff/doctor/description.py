"""Is a classifier that somebody else made described truly? Each other normalisation and direction, on labelled images.

A wrong one is the commonest fault of a borrowed classifier, and a silent one: it goes on to answer, only worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from scipy.stats import binomtest  # type: ignore[import-untyped]

from cfdiff.data.values import unit
from cfdiff.doctor.classifiers import balanced, right, turn_classes
from cfdiff.doctor.context import Context
from cfdiff.doctor.lines import Line
from cfdiff.edit.levels import CHANCE
from cfdiff.models.description import NORMALISATIONS, Description, Normalisation
from cfdiff.models.foreign import Foreign, foreign_members
from cfdiff.roles import CLASSIFIERS

GRAY = "0.449/0.226"
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
    told = net.description
    named = {name: value for name, value in candidates(context, told.channels).items() if not _same(value, told)}
    others = {name: _better(read(context, net.described(normalisation=value))) for name, value in named.items()}
    # Of equally good ones rather one that somebody is likely to have trained with.
    name, best = max(others.items(), key=lambda item: (item[1].accuracy, item[0] in NORMALISATIONS, item[1].log_p))
    shown = net.description.normalisation
    figure = (
        f"balanced accuracy {own.accuracy:.2f} with {shown if isinstance(shown, str) else 'its mean and std'}, "
        + ", ".join(f"{reading.accuracy:.2f} with {other}" for other, reading in others.items())
    )
    found = {"described": own.accuracy} | {other: reading.accuracy for other, reading in others.items()}
    if best.accuracy - own.accuracy < BETTER or _luck(own.hits, best.hits) >= SURE:
        if own.accuracy < CHANCE:
            advice = (
                f"With none of them it knows these images: write the mean and std, the size and the classes that it "
                f"was trained with into {net.where}."
            )
            return Line(f"normalisation ({who})", "warn", figure, advice, found)
        return Line(f"normalisation ({who})", "ok", figure, values=found)
    advice = f'Write normalisation = "{name}" into {net.where}'
    advice += f". {turn_classes([net])}" if best.turned else "."
    return Line(f"normalisation ({who})", "fail", figure, advice, found)


def candidates(context: Context, channels: int) -> dict[str, Normalisation]:
    """What classifiers are trained with, by how a description writes it: names, and the data's own mean and std."""
    pixels = unit(context.stored).astype(np.float64)
    own = tuple(f"{value:.3f}" for value in (pixels.mean(), max(float(pixels.std()), 1e-3)))
    found = {
        name: Normalisation(mean=mean, std=std) for name, (mean, std) in NORMALISATIONS.items() if len(mean) <= channels
    }
    if channels == 1:  # ImageNet's, of one gray channel
        found[GRAY] = Normalisation(mean=(0.449,), std=(0.226,))
    return found | {"/".join(own): Normalisation(mean=(float(own[0]),), std=(float(own[1]),))}


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


def _same(other: Normalisation, told: Description) -> bool:
    pairs = zip((other.mean, other.std), told.mean_std, strict=True)
    return all(np.allclose(np.broadcast_to(a, 3), np.broadcast_to(b, 3), rtol=0, atol=1e-3) for a, b in pairs)
