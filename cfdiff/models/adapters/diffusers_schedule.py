"""The config of a diffusers scheduler as our noise schedule and parametrisation; the sampler that it names is not used.

All of diffusers' discrete schedulers make the same betas from the same entries; only their samplers differ. Their
timestep t is our level t + 1. They count in float32, we in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cfdiff.engine.process import Parametrisation
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError

PREDICTIONS: dict[str, Parametrisation] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SCHEDULERS = (
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
)
"""Those whose networks are trained on x_t = sqrt(ab_t) x_0 + sqrt(1 - ab_t) eps; flow matching and others are not."""
LOWEST = 2.0**-24
"""alpha_bar of the last level where the SNR there is zero: x0 cannot be had from eps at 0 (diffusers' Euler too)."""
OTHER_START = {"HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler"} | {
    "DPMSolverSDEScheduler"
}
"""Schedulers whose betas go from 0.00085 to 0.012 where their config does not say."""


def schedule_of(config: Mapping[str, Any], where: str) -> NoiseSchedule:
    """The noise schedule of a scheduler_config.json; an entry that is not there has diffusers' default.

    Raises:
        UserError: a scheduler, or a schedule of betas, that is not known here; `where` says of what.
    """
    name = config.get("_class_name")
    if name not in SCHEDULERS:
        raise UserError(
            f"The scheduler {name!r} of {where} is not known here: cfdiff reads those of DDPM's noise, such as "
            "DDPMScheduler and DDIMScheduler."
        )
    if config.get("trained_betas") is not None:
        return _rescaled(NoiseSchedule.from_betas(_numbers(config["trained_betas"], where)), config)
    kind = str(config.get("beta_schedule", "linear"))
    if kind not in BETAS:
        raise UserError(
            f"The beta_schedule {kind!r} of the scheduler of {where} is not known here: cfdiff reads "
            f"{', '.join(BETAS)} and trained_betas."
        )
    low, high = (0.00085, 0.012) if name in OTHER_START else (0.0001, 0.02)
    try:
        T = int(config.get("num_train_timesteps", 1000))
        start, end = float(config.get("beta_start", low)), float(config.get("beta_end", high))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The scheduler of {where} gives no numbers for num_train_timesteps, beta_start and beta_end: copy it "
            "again."
        ) from error
    if T < 1:
        raise UserError(f"The scheduler of {where} has {T} timesteps: it needs at least one.")
    return _rescaled(BETAS[kind](T, start, end), config)


def parametrisation_of(config: Mapping[str, Any], where: str) -> Parametrisation:
    """What the network predicts, by its scheduler's config; UserError for what is not known here."""
    told = config.get("prediction_type", "epsilon")
    if told not in PREDICTIONS:
        raise UserError(
            f"The prediction_type {told!r} of the scheduler of {where} is not known here: cfdiff reads "
            f"{', '.join(PREDICTIONS)}."
        )
    return PREDICTIONS[told]


def _linear(T: int, start: float, end: float) -> NoiseSchedule:
    if end * T / 1000 <= 0.999:
        return NoiseSchedule.linear(T, start * T / 1000, end * T / 1000)  # ours are scaled to T; theirs are as given
    return NoiseSchedule.from_betas(torch.linspace(start, end, T, dtype=torch.float64))


def _scaled_linear(T: int, start: float, end: float) -> NoiseSchedule:
    """sqrt(beta) is linear (Rombach et al. 2022)."""
    return NoiseSchedule.from_betas(torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2)


def _sigmoid(T: int, start: float, end: float) -> NoiseSchedule:
    return NoiseSchedule.from_betas(torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid() * (end - start) + start)


BETAS: dict[str, Callable[[int, float, float], NoiseSchedule]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": lambda T, start, end: NoiseSchedule.cosine(T),
    "sigmoid": _sigmoid,
}


def _numbers(values: Any, where: str) -> Tensor:
    try:
        return torch.tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"The trained_betas of the scheduler of {where} are no list of numbers.") from error


def _rescaled(schedule: NoiseSchedule, config: Mapping[str, Any]) -> NoiseSchedule:
    """With `rescale_betas_zero_snr`, sqrt(ab) is shifted and scaled to end at 0 (Lin et al. 2024, algorithm 1).

    Here it ends at `LOWEST`, so that x0 can be had from eps at every level.
    """
    if not config.get("rescale_betas_zero_snr"):
        return schedule
    root = schedule.alpha_bar[1:].sqrt()
    ab = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square().clamp(min=LOWEST)
    return NoiseSchedule.from_betas(1 - ab / torch.cat([ab.new_ones(1), ab[:-1]]))
