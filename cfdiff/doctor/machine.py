"""Checks of the machine: device, precision, threads, memory."""

from __future__ import annotations

import os

import torch

from cfdiff.doctor.context import Context
from cfdiff.doctor.lines import Line
from cfdiff.edit.memory import free_memory

LOW_MEMORY = 1.0
"""GiB below which a run may be killed."""


def device(context: Context) -> list[Line]:
    """Where networks run, with what precision and which torch; a GPU that stands idle is worth a word."""
    figure = f"{context.device}, precision {context.s.precision}, torch {torch.__version__}"
    if torch.cuda.is_available() and context.device.type != "cuda":
        return [Line("device", "warn", figure, "There is a CUDA device: use --device cuda.")]
    return [Line("device", "ok", figure)]


def threads(context: Context) -> list[Line]:
    """Threads of torch against the processors that this process may use."""
    used, usable = torch.get_num_threads(), usable_cpus()
    figure = f"{used} thread{'s' if used > 1 else ''} on {usable} processor{'s' if usable > 1 else ''}"
    found = {"threads": float(used), "processors": float(usable)}
    if used > usable:
        advice = f"More threads than processors slow each other down: use --threads {usable}."
        return [Line("threads", "warn", figure, advice, found)]
    return [Line("threads", "ok", figure, values=found)]


def memory(context: Context) -> list[Line]:
    """Free memory of the device."""
    there = free_memory(context.device)
    if there is None:
        return []
    free = there / 2**30
    figure, found = f"{free:.1f} GiB free", {"free_gib": free}
    if free < LOW_MEMORY:
        return [Line("memory", "warn", figure, "End other programs, or use a smaller --batch-size.", found)]
    return [Line("memory", "ok", figure, values=found)]


def usable_cpus() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
