"""Checks of the classifiers: which way they point, and up to which noise level the guide knows the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from cfdiff.doctor.context import Context
from cfdiff.doctor.lines import Line
from cfdiff.edit.editor import Editor
from cfdiff.edit.ladder import ladder
from cfdiff.edit.levels import CHANCE
from cfdiff.engine import NoiseSchedule, NoiseSource, q_sample
from cfdiff.metrics.intervals import wilson
from cfdiff.models.checkpoint import Model
from cfdiff.models.foreign import Foreign, foreign_members
from cfdiff.roles import CLASSIFIERS

INVERTED = 0.4
WEAK = 0.8


def direction(context: Context) -> list[Line]:
    """Balanced accuracy on clean images: do the classifiers call real positives positive?"""
    roles = [role for role in CLASSIFIERS if role in context.fitting]
    scores = {role: clean_accuracy(context, context.fitting[role]) for role in roles}
    opposite = {role: clean_accuracy(context, context.fitting[role], opposite=True) for role in roles}
    # One that knows further classes may see neither in any image: that is no other direction.
    turned = [role for role in roles if scores[role] < INVERTED < opposite[role]]
    all_turned = len(turned) == len(roles) and not any(foreign_members(context.fitting[role]) for role in roles)
    return [_direction_line(context, role, scores[role], role in turned, all_turned) for role in roles]


def _direction_line(context: Context, role: str, score: float, turned: bool, all_turned: bool) -> Line:
    negative, positive = context.data.classes
    name, found = f"direction ({role})", {"balanced_accuracy": score}
    figure = f"balanced accuracy {score:.2f} on {len(context.labels)} clean images"
    if turned:
        advice = (
            f"All classifiers call {negative!r} positive: swap them, --negative {positive} --positive {negative}."
            if all_turned
            else f"Not every classifier calls {negative!r} positive, but the {role} does: it was trained with the "
            f"classes swapped; train it with --negative {negative} --positive {positive}."
        )
        if described := foreign_members(context.fitting[role]):
            advice = turn_classes(described)
        return Line(name, "fail", f"{figure}: inverted", advice, found)
    if score < CHANCE:
        advice = f"The {role} does not know these images: train it on them, or name another --{role}."
        return Line(name, "fail", f"{figure}: chance", advice, found)
    if score < WEAK:
        advice = f"The {role} is weak on these images: look at more of them (--limit), or train it longer."
        return Line(name, "warn", figure, advice, found)
    return Line(name, "ok", figure, values=found)


def turn_classes(nets: Sequence[Foreign]) -> str:
    """What to write where described classifiers have the classes the wrong way round."""
    said = []
    for net in nets:
        groups = ["+".join(map(str, group)) for group in reversed(net.description.classes)]
        way = f'classes = "{",".join(groups)}"' if len(groups) > 1 else "the label of the other class as classes"
        said.append(f"write {way} into {net.where}")
    sentence = " and ".join(said)
    return f"{sentence[0].upper()}{sentence[1:]}: the negative class comes first."


def guide_by_level(context: Context) -> list[Line]:
    """The guide's accuracy by noise level, the level where it falls to chance, and whether guidance is on beyond it.

    It counts how well the guide tells the classes apart; whether it has them the right way round, `direction` says.
    Guidance is on up to the last level of the path, or of the card's validation (`Cast.guide_max_level`). Of N images
    some fall below CHANCE, or rise above it, by luck: `falling` evens that out over the levels, and it is a failure
    only where the 95 % interval lies below CHANCE, else a warning.
    """
    if "guide" not in context.fitting or "noisy" not in context.s.guide_names:
        return []
    guide, n = context.fitting["guide"], len(context.labels)
    on = guided_up_to(context)
    schedule = NoiseSchedule.from_config(guide.card.schedule or {})
    levels = [0, *(level for level in context.levels(context.cast.schedule.T, on) if 0 < level <= schedule.T)]
    scores = {level: noisy_accuracy(context, guide, schedule, level) for level in levels}
    if scores[0] < INVERTED:
        scores = {level: 1 - score for level, score in scores.items()}
    fit = falling(scores)
    able = max((level for level, score in fit.items() if score >= CHANCE), default=-1)
    beyond = [level for level in levels if able < level <= on]
    lost = [level for level in beyond if wilson(round(fit[level] * n), n)[1] < CHANCE]
    falls = next((level for level in levels if level > able), None)
    shown = ", ".join(f"{level}: {scores[level]:.2f}" for level in levels)
    where = f"not at chance up to level {levels[-1]}" if falls is None else f"at chance from level {falls}"
    figure = f"{shown}; {where}; guidance on up to level {on}"
    found = {str(level): score for level, score in scores.items()} | {"guidance_on_to": float(on)}
    if not beyond:
        return [Line("guide by level", "ok", figure, values=found)]
    return [Line("guide by level", "fail" if lost else "warn", figure, less_noise(context, able), found)]


def less_noise(context: Context, able: int) -> str:
    """What to do where guidance is on beyond `able`, the last level that the guide knows; -1 where it knows none."""
    if able < 0:
        return "The guide knows nothing even of clean images: train it longer, or use --guides clean."
    T = context.cast.schedule.T
    shallow = sum(round(rung.depth * T) <= able for rung in ladder(context.s))
    if context.s.depth * T > able:
        way = f"lower --depth to {able / T:g} (and --retries)"
    else:
        way = f"its last retries go there: look at more images (--limit), or lower --retries to {max(0, shallow - 1)}"
    anew = (
        ""
        if context.cast.guide_max_level is not None
        else (", or train the guide anew, which writes the accuracy by level into its card")
    )
    return f"Beyond level {able} the guide adds noise, not direction: {way}, use --guides clean{anew}."


def falling(scores: dict[int, float]) -> dict[int, float]:
    """The nearest accuracies (least squares) that never rise with the level, as more noise never tells more."""
    from sklearn.isotonic import IsotonicRegression

    levels = sorted(scores)
    fit = IsotonicRegression(increasing=False).fit_transform(levels, [scores[level] for level in levels])
    return dict(zip(levels, map(float, fit), strict=True))


def guided_up_to(context: Context) -> int:
    """The noisiest level of any rung's path at which the guide is on."""
    editor = Editor(context.cast, context.s)
    path = {level for rung in editor.rungs for level in editor.tau(rung.depth)}
    limit = context.cast.guide_max_level
    return max(level for level in path if limit is None or level <= limit)


def clean_accuracy(context: Context, model: Model, opposite: bool = False) -> float:
    """Balanced accuracy of a classifier, noisy or not, on the clean images; `opposite`: at telling the other class."""
    if model.card.kind == "noisy-classifier":
        score = noisy_accuracy(context, model, NoiseSchedule.from_config(model.card.schedule or {}), 0)
        return 1 - score if opposite else score
    return balanced(context, right(context, context.batches(model.net, context.x0), opposite))


def noisy_accuracy(context: Context, model: Model, schedule: NoiseSchedule, level: int) -> float:
    """Balanced accuracy of a guide on x_l of its space; the noise of an image is the same at every level."""
    noise = NoiseSource(context.s.seed, [f"doctor/{i}" for i in context.ids]).like(context.z0)
    x = q_sample(schedule, context.z0, level, noise)
    log_snr = schedule.log_snr(level).float().to(x.device)
    return balanced(
        context, right(context, context.batches(lambda part: model.net(part, log_snr.expand(len(part))), x))
    )


def right(context: Context, logits: torch.Tensor, opposite: bool = False) -> np.ndarray:
    """(N,) bool: the class that an image has, or the `opposite` one, has more than half of the probability."""
    labels = 1 - context.labels if opposite else context.labels
    p = F.softmax(logits.float(), dim=1).cpu().numpy()
    found: np.ndarray = p[np.arange(len(labels)), labels] > 0.5
    return found


def balanced(context: Context, hits: np.ndarray) -> float:
    """The mean over both classes of the share of `hits` (N,)."""
    return float(np.mean([hits[context.labels == k].mean() for k in (0, 1)]))
