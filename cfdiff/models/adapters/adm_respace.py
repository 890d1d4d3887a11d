"""`timestep_respacing` of guided-diffusion: which timesteps a network is asked at, and the schedule between them.

Two ways of writing it: "ddim25", 25 timesteps an equal integer stride apart, from 0 on; and "250" or "10,15,20", which
divides all into as many equal sections as there are numbers and takes so many of each, first and last included.
"""

from __future__ import annotations

import torch

from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError


def used_timesteps(T: int, told: str) -> list[int]:
    """The timesteps, increasing, in 0..T-1.

    Raises:
        UserError: there are not so many, or it cannot be read.
    """
    if told.startswith("ddim"):
        wanted = _number(told.removeprefix("ddim"), told)
        strides = [stride for stride in range(1, T) if len(range(0, T, stride)) == wanted]
        if not strides:
            raise UserError(
                f"--timestep-respacing {told}: no whole stride gives {wanted} of {T} timesteps; give another number, "
                f"or {wanted} alone."
            )
        return list(range(0, T, strides[0]))
    counts = [_number(word, told) for word in told.split(",")]
    used, start = set[int](), 0
    for i, count in enumerate(counts):
        size = T // len(counts) + (i < T % len(counts))
        if count > size:
            raise UserError(f"--timestep-respacing {told}: {count} timesteps do not fit into a section of {size}.")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        place = 0.0
        for _ in range(count):
            used.add(start + round(place))
            place += stride  # summed, as theirs, so that halves are rounded alike
        start += size
    return sorted(used)


def respaced(schedule: NoiseSchedule, timesteps: list[int]) -> NoiseSchedule:
    """The schedule that goes through the same alpha_bar at some of its timesteps alone."""
    ab = schedule.alpha_bar[1:][torch.tensor(timesteps)]
    return NoiseSchedule.from_betas(1 - ab / torch.cat([ab.new_ones(1), ab[:-1]]))


def _number(word: str, told: str) -> int:
    try:
        number = int(word)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f'--timestep-respacing {told} is not known: it is written "250", "10,15,20" or "ddim25".')
    return number
