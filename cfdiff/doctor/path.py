"""Checks of the way up and down: identity, inversion error, the strength of guidance, and an edit on trial."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cfdiff.data.source import require_masks
from cfdiff.data.values import mean_change, to_model
from cfdiff.doctor.context import Context
from cfdiff.doctor.data import rounding_step
from cfdiff.doctor.lines import Line, Status
from cfdiff.doctor.trials import trial_edits
from cfdiff.edit.cast import probabilities
from cfdiff.edit.editor import Editor
from cfdiff.edit.roles import load_cast
from cfdiff.engine import Guidance
from cfdiff.engine.process import x0_from_eps

INVERSION = 0.02
"""Mean |x - reconstruction| in [0, 1] units above which plain decoding changes what one sees."""
FEEBLE = 0.01
"""||guidance|| / ||eps|| below which guidance is lost in the network's own error."""
ALWAYS = 0.99
FEW_FLIPS = 0.5
APART, LEAST_APART = 0.15, 2
"""How far the model that accepts and the checker may part on the trial edits. Both saw the same clean images, on which
good classifiers part by a few percentage points; more on the edits means that one of them is fooled by what steered
the other, and whatever is then accepted or counted is wrong. Of the 16 images of a trial this is three, and one image
alone, which may lie between the classes, is never enough."""
Role = Literal["judge", "verifier", "checker"]


def start(context: Context) -> list[Line]:
    """Whether a run would start: everything that `cfdiff translate` checks before it computes."""
    if context.s.mask == "data":
        require_masks(context.data, "--mask data")
    Editor(load_cast(context.s, context.s.data, context.data), context.s)
    return [Line("start", "ok", "cfdiff translate takes these models, settings and images")]


def noise_path(context: Context) -> list[Line]:
    """The depth as level and alpha_bar, of the first try and of the deepest rung of the ladder."""
    editor, schedule = Editor(context.cast, context.s), context.cast.schedule
    first = editor.tau(context.s.depth)[-1]
    ab = {level: float(schedule.alpha_bar[level]) for level in (first, context.top)}
    figure = f"{context.s.steps} steps to level {first} of {schedule.T}, alpha_bar {ab[first]:.3f}"
    if context.top > first:
        figure += f"; retries to level {context.top}, alpha_bar {ab[context.top]:.3f}"
    return [Line("noise path", "ok", figure, values={"level": float(first), "alpha_bar": ab[first]})]


def identity(context: Context) -> list[Line]:
    """An anchored decode without guidance must save every image as it was, bit for bit."""
    rows = context.path_rows
    back, finite = _reconstruct(context, rows, anchored=True)
    same = (back == context.stored[rows]).all(axis=(1, 2, 3)) & finite
    changed = int((~same).sum())
    figure = f"{changed} of {len(rows)} images changed without guidance"
    if changed:
        advice = (
            "The network gives no finite or no repeatable output: see the lines on eps error and precision, and try "
            "--device cpu --precision no."
        )
        return [Line("identity", "fail", figure, advice, {"changed": float(changed)})]
    return [Line("identity", "ok", figure, values={"changed": 0.0})]


def inversion(context: Context) -> list[Line]:
    """Mean |x - reconstruction| of plain encode and decode, with the S of the settings and with twice as many steps."""
    rows, schedule = context.path_rows, context.cast.schedule
    double = min(2 * context.s.steps, schedule.level_of(context.s.depth))
    error = {}
    for steps in (context.s.steps, double):
        back, finite = _reconstruct(context, rows, anchored=False, steps=steps)
        error[steps] = float(mean_change(context.stored[rows], back).mean()) if finite.all() else np.inf
    figure = ", ".join(f"mean |difference| {value:.4f} with {steps} steps" for steps, value in error.items())
    found = {f"steps_{steps}": value for steps, value in error.items()}
    if not error[context.s.steps] <= INVERSION:
        advice = (
            "Plain decoding shows this error beside the guidance: use the anchored decode, which takes it out, more "
            "--steps, a lower --depth or --inversion fixed-point."
        )
        return [Line("inversion", "warn", figure, advice, found)]
    return [Line("inversion", "ok", figure, values=found)]


def guidance(context: Context) -> list[Line]:
    """||guidance|| / ||eps|| at each level of the encoded path, before and after the clamp, in the open loop."""
    s = context.s
    if s.scale == 0:
        return [Line("guidance", "ok", "off: --scale 0 returns the input")]
    strength = guidance_strength(context)
    clamped = {level: r if s.ratio is None else r.clamp(max=s.ratio) for level, r in strength.items()}
    free = {level: float(r.median()) for level, r in strength.items()}
    held = {level: float(r.median()) for level, r in clamped.items()}
    every = torch.cat(list(strength.values()))
    active = every[every != 0]
    binds = 0.0 if s.ratio is None or not len(active) else float((active > s.ratio).float().mean())
    shown = ", ".join(f"{level}: {held[level]:.3f} ({free[level]:.3f})" for level in free)
    clamp = "no clamp" if s.ratio is None else f"the clamp {s.ratio:g} binds in {binds:.0%}"
    figure = f"||guidance|| / ||eps|| by level, in brackets without the clamp: {shown}; {clamp}"
    found = {str(level): value for level, value in held.items()}
    found |= {f"free_{level}": value for level, value in free.items()} | {"clamp_binds": binds}
    if not every.isfinite().all() or not len(active):
        advice = (
            "The guides give no gradient, or none that is finite: see the lines on their direction and on precision."
        )
        return [Line("guidance", "fail", figure, advice, found)]
    if max(held.values()) < FEEBLE:
        return [Line("guidance", "warn", figure, "Guidance is lost beside the network: raise --scale.", found)]
    if binds >= ALWAYS:
        advice = "The clamp always binds, so --scale says nothing: lower --scale, or set the strength with --ratio."
        return [Line("guidance", "warn", figure, advice, found)]
    return [Line("guidance", "ok", figure, values=found)]


def guidance_strength(context: Context) -> dict[int, Tensor]:
    """Level -> (B,) the unclamped ||guidance|| / ||eps|| towards the other class, at x^e of that level."""
    editor, rows = Editor(context.cast, context.s), context.path_rows
    schedule = context.cast.schedule
    source = torch.from_numpy(context.labels[rows]).to(context.device)
    path = editor.encode(context.z0[rows], [context.ids[i] for i in rows], context.s.depth, source)
    guide = Guidance(schedule, editor.guides(), context.s.scale, None, 1 - source)
    strength = {}
    for i in range(path.steps, 0, -1):
        x, eps, level = path.x[i], path.eps_at(i), path.tau[i]
        strength[level] = guide(x, level, eps, x0_from_eps(schedule, x, level, eps)).ratio.cpu()
    return strength


def trial_edit(context: Context) -> list[Line]:
    """Edit some images to the other class, without retries: how many flip, and is the change above rounding?"""
    s, (rows, done) = context.s, trial_edits(context)
    labels = context.labels[rows]
    change = float(mean_change(context.stored[rows], done).mean())
    roles: tuple[Role, ...] = ("judge", "verifier", "checker")
    before, after = (
        {role: _share(context, role, images, 1 - labels) for role in roles if getattr(context.cast, role, None)}
        for images in (context.stored[rows], done)
    )
    step = rounding_step(context.data.dtype)
    steps = "" if step == 0 else f", {change / step:.1f} rounding steps"
    said = "".join(f", the other class to the {role}: {share:.0%}" for role, share in after.items())
    figure = f"{len(rows)} images, mean |difference| {change:.4f}{steps}{said}"
    found = {"mean_abs_difference": change} | {f"flipped_{role}": share for role, share in after.items()}
    status, advice = _verdict(change, step, before, after, len(rows)) if s.scale else ("ok", "")
    return [Line("trial edit", status, figure, advice, found)]


def _share(context: Context, role: Role, images: np.ndarray, target: np.ndarray) -> float:
    """Of the images, the share that a classifier takes for their `target`."""
    p = probabilities(context.fitting[role], to_model(images).to(context.device)).numpy()
    return float((p[np.arange(len(images)), target] > 0.5).mean())


def _verdict(
    change: float, step: float, before: dict[Role, float], after: dict[Role, float], n: int
) -> tuple[Status, str]:
    for role in ("checker", _accepting(after)):
        if role is not None and before.get(role, 0) >= FEW_FLIPS:
            return "warn", f"The {role} takes the images for the other class before any edit: see its direction."
    if change == 0:
        return "fail", "Nothing was changed: see the line on guidance."
    if change < step / 4:
        return "warn", "The change is no larger than rounding: raise --scale and --ratio, or save the images as uint16."
    if (who := _accepting(after)) is not None and _apart(after[who], after.get("checker", after[who]), n):
        convinced, other = ("checker", who) if after["checker"] > after[who] else (who, "checker")
        return "fail", (
            f"The edits convince the {convinced} and not the {other}, so they are no real change: look at the eps "
            "error, use --guides both, or let cfdiff tune find settings."
        )
    if not after or min(after.values()) >= FEW_FLIPS:
        return "ok", ""
    return "warn", "Few flip at the first try: raise --ratio, --scale or --depth, or let cfdiff tune find settings."


def _accepting(shares: dict[Role, float]) -> Role | None:
    """Whose word decides whether an edit is one: the verifier's where there is one, else the judge's."""
    return next((role for role in ("verifier", "judge") if role in shares), None)


def _apart(one: float, other: float, n: int) -> bool:
    """Whether two shares of n images part by more than `APART`, and by more than a single image."""
    gap = abs(one - other)
    return gap > APART and round(gap * n) >= LEAST_APART


def _reconstruct(context: Context, rows: np.ndarray, **changes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Encode and decode without guidance, as it would be saved; and which images came out finite."""
    editor = Editor(context.cast, context.s.model_copy(update={"retries": 0, **changes}))
    return editor.reconstruct(context.stored[rows], [context.ids[i] for i in rows], context.labels[rows])
