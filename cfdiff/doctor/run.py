"""cfdiff doctor: a minute of checks on a few dozen images, each a line with its figure and what to do.

A check is a function of the context that returns lines. One that cannot run, as something that it needs is broken,
says so and hides no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cfdiff.doctor import classifiers, confound, data, description, diffusion, machine, path, space, witnesses
from cfdiff.doctor.context import Context, attempt, open_context
from cfdiff.doctor.lines import Line, Report
from cfdiff.doctor.settings import DoctorSettings
from cfdiff.progress import Progress, silent


class Check(NamedTuple):
    """A check, the name of its line, and what it cannot do without (`Context.ready`)."""

    name: str
    run: Callable[[Context], list[Line]]
    needs: tuple[str, ...] = ()


WORDS = {
    "data": "data",
    "images": "images",
    "both classes": "images of both classes",
    "diffusion": "diffusion model that fits",
    "steering": "guide or checker, which --guides, the closed loop or --retries need",
    "masks": "masks, which --mask data needs",
}
EDITS = ("images", "diffusion", "steering")
CHECKS = (
    Check("device", machine.device),
    Check("threads", machine.threads),
    Check("memory", machine.memory),
    Check("size", data.shapes, ("data",)),
    Check("values", data.values, ("images",)),
    Check("saving", data.round_trip, ("images",)),
    Check("classes", data.classes, ("data",)),
    Check("direction", classifiers.direction, ("images", "both classes")),
    Check("normalisation", description.descriptions, ("images", "both classes")),
    Check("verifier", witnesses.verifier),
    Check("judge", witnesses.judge),
    Check("unseen images", witnesses.unseen, ("data",)),
    Check("schedule", diffusion.schedules),
    Check("autoencoder", space.autoencoder, ("images", "diffusion")),
    Check("eps error", diffusion.eps_error, ("images", "diffusion")),
    Check("condition", diffusion.condition, ("images", "diffusion")),
    Check("precision", diffusion.precision, ("images", "diffusion")),
    Check("noise path", path.noise_path, ("data", "diffusion")),
    Check("guide by level", classifiers.guide_by_level, ("images", "both classes", "diffusion")),
    Check("identity", path.identity, ("images", "diffusion")),
    Check("inversion", path.inversion, ("images", "diffusion")),
    Check("guidance", path.guidance, EDITS),
    Check("trial edit", path.trial_edit, (*EDITS, "masks")),
    Check("confound", confound.confound, (*EDITS, "both classes", "masks")),
    Check("start", path.start, ("data",)),
)


def doctor(s: DoctorSettings, progress: Progress = silent) -> Report:
    """Run every check that can run."""
    context, lines = open_context(s)
    for done, check in enumerate(CHECKS):
        progress(f"checking {check.name}", done, len(CHECKS))
        lines += examine(context, check)
    name = None if context.source is None else context.source.name
    return Report(name, 0 if context.images is None else len(context.images), tuple(lines))


def examine(context: Context, check: Check) -> list[Line]:
    """The lines of one check; one that says so where it cannot run, or where it finds a user's mistake."""
    missing = [need for need in check.needs if need not in context.ready]
    if missing:
        return [Line(check.name, "warn", f"not checked: no {WORDS[missing[0]]}", "Mend what fails, then ask again.")]
    failed: list[Line] = []
    with np.errstate(invalid="ignore"):  # a network that gives nan is a line, not a warning of numpy
        return attempt(check.name, lambda: check.run(context), failed) or failed
