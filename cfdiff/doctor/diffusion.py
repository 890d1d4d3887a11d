"""Checks of the diffusion model: is it trained, does the guide know its schedule, does half precision hurt it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from cfdiff.doctor.context import Context
from cfdiff.doctor.lines import Line
from cfdiff.engine import NoiseSchedule, NoiseSource, q_sample

PRECISION_WARN, PRECISION_FAIL = 0.02, 0.1


def schedules(context: Context) -> list[Line]:
    """The noise schedules of guide and diffusion model: the same betas."""
    if not {"guide", "diffusion"} <= set(context.models):
        return []
    configs = [context.models[role].card.schedule or {} for role in ("guide", "diffusion")]
    guide, diffusion = (NoiseSchedule.from_config(config) for config in configs)
    figure = f"guide {_words(guide)}, diffusion {_words(diffusion)}"
    if guide.same_as(diffusion):
        return [Line("schedule", "ok", figure)]
    named = f"--schedule {diffusion.name} --T {diffusion.T}"
    advice = f"Train a guide with {named if diffusion.name != 'betas' else '--schedule-of and the diffusion model'}."
    return [Line("schedule", "fail", figure, advice)]


def eps_error(context: Context) -> list[Line]:
    """||eps - eps_theta||^2 a pixel by level, against the best predictor that knows a pixel's mean and variance only.

    Predicting nothing (eps = 0) gives 1. A network that does not beat the pixelwise predictor at half of the levels
    has not learned; at some of them, has learned too little there.
    """
    cast, z0 = context.cast, context.z0
    if len(z0) < 2:
        return [Line("eps error", "warn", "not checked: a single image has no variance", "Give more images.")]
    noise = NoiseSource(context.s.seed, [f"doctor/{i}" for i in context.ids]).like(z0)
    variance = z0.var(dim=0)
    error, linear = {}, {}
    for level in context.levels(cast.schedule.T):
        x = q_sample(cast.schedule, z0, level, noise)
        eps = context.eps(cast, x, level)
        error[level] = float((eps - noise).square().mean())
        linear[level] = linear_loss(variance, float(cast.schedule.alpha_bar[level]))
    worse = [level for level in error if not error[level] < linear[level]]  # so that nan is worse
    shown = ", ".join(f"{level}: {error[level]:.3f} ({linear[level]:.3f})" for level in error)
    figure = f"by level, in brackets that of a pixelwise predictor; 1 is to predict nothing: {shown}"
    found = {str(level): value for level, value in error.items()}
    found |= {f"pixelwise_{level}": value for level, value in linear.items()}
    if len(worse) * 2 >= len(error):
        advice = "The diffusion model is not trained on such images: train it (cfdiff train-diffusion) on this data."
        return [Line("eps error", "fail", figure, advice, found)]
    if worse:
        advice = (
            f"At level{'s' if len(worse) > 1 else ''} {', '.join(map(str, worse))} it knows no more than the mean and "
            "variance of each pixel: train it longer (--level-power above 1 for low levels, 1 for high ones)."
        )
        return [Line("eps error", "warn", figure, advice, found)]
    return [Line("eps error", "ok", figure, values=found)]


def linear_loss(variance: Tensor, alpha_bar: float) -> float:
    """E ||eps - eps_hat||^2 a pixel of the best predictor from the pixel alone, for Gaussian pixels.

    eps_hat = sqrt(1 - ab) (x_l - sqrt(ab) mean) / (ab s^2 + 1 - ab), and its error is ab s^2 / (ab s^2 + 1 - ab)
    (the posterior variance of eps given x_l).

    Args:
        variance: s^2 of each pixel over the images, in [-1, 1] units.
        alpha_bar: ab at the level, below 1.
    """
    signal = alpha_bar * variance.double()
    return float((signal / (signal + 1 - alpha_bar)).mean())


def condition(context: Context) -> list[Line]:
    """||eps - eps_theta||^2 a pixel at the top of the path, told the image's class, nothing, and the other class."""
    denoise, schedule, z0 = context.cast.denoise, context.cast.schedule, context.z0
    if not denoise.conditional:
        return [Line("condition", "ok", "the diffusion model is told no class")]
    level = schedule.level_of(context.s.depth)
    noise = NoiseSource(context.s.seed, [f"doctor/{i}" for i in context.ids]).like(z0)
    x, own = q_sample(schedule, z0, level, noise), torch.from_numpy(context.labels).to(z0.device)

    def error(told: Tensor) -> float:
        parts = zip(x.split(context.s.batch_size), told.split(context.s.batch_size), strict=True)
        with torch.no_grad():
            eps = torch.cat([denoise(part, level, here) for part, here in parts])
        return float((eps - noise).square().mean())

    found = {"own": error(own), "other": error(1 - own)}
    if denoise.told_nothing:
        found["nothing"] = error(torch.full_like(own, -1))
    shown = ", ".join(f"told {name}: {value:.4f}" for name, value in found.items())
    figure = f"eps error at level {level} by class told: {shown}"
    if found["own"] < found["other"]:
        return [Line("condition", "ok", figure, values=found)]
    advice = "It does not use the class, so --guides cfg leads nowhere: train it longer, or look at the classes' order."
    return [Line("condition", "fail" if "cfg" in context.s.guide_names else "warn", figure, advice, found)]


def precision(context: Context) -> list[Line]:
    """eps under autocast against eps in float32: the root mean square difference, relative, at its worst level."""
    if context.s.precision == "no":
        return [Line("precision", "ok", "float32")]
    exact, rows = replace(context.cast, precision="no"), context.path_rows
    z0 = context.z0[rows]
    noise = NoiseSource(context.s.seed, [f"doctor/{context.ids[i]}" for i in rows]).like(z0)
    worst = 0.0
    for level in context.levels(exact.schedule.T):
        x = q_sample(exact.schedule, z0, level, noise)
        want, got = context.eps(exact, x, level, rows), context.eps(context.cast, x, level, rows)
        difference = float((got - want).norm() / want.norm())
        worst = max(worst, difference if math.isfinite(difference) else math.inf)
    figure = f"{context.s.precision} differs from float32 by {worst:.2%} of eps at the worst level"
    found = {"relative_difference": worst}
    if worst > PRECISION_WARN:
        status, advice = ("fail" if worst > PRECISION_FAIL else "warn"), "Use --precision no, or bf16 in place of fp16."
        return [Line("precision", status, figure, advice, found)]  # type: ignore[arg-type]
    return [Line("precision", "ok", figure, values=found)]


def _words(schedule: NoiseSchedule) -> str:
    return f"{schedule.name} with {schedule.T} steps"
