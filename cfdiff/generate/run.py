"""cfdiff generate: noise to images, part by part into one HDF5 file, then a picture and figures of what was saved."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy import arange

from cfdiff.data.source import class_index
from cfdiff.edit.cast import Cast
from cfdiff.errors import UserError
from cfdiff.figures.panel import FORMATS
from cfdiff.generate.models import Canvas, Leading, load, load_drawing, open_real
from cfdiff.generate.picture import draw
from cfdiff.generate.plan import Plan, make_plan
from cfdiff.generate.quality import real_features
from cfdiff.generate.sampler import Sampler, Start
from cfdiff.generate.settings import GenerateSettings
from cfdiff.generate.summary import GenerateSummary, walks_of
from cfdiff.progress import Progress
from cfdiff.settings import PLACES
from cfdiff.store import check_output
from cfdiff.store.output import make_folder
from cfdiff.store.result import is_result_of
from cfdiff.store.samples import SampleParts, Samples

AFTERWARDS = {"picture", "compare", "features", "feature_weights", "split", "negative", "positive", "ends", "checker"}
"""Settings that no image hangs on: what is measured of them, and what the plan and the models say already."""


def generate(s: GenerateSettings, progress: Progress | None = None) -> GenerateSummary:
    """Run (or continue) a generation; returns what the finished file holds.

    A file that these settings have made already is not made again: it is measured and drawn.

    Raises:
        UserError: models, data, settings or outputs are not usable, or cannot give what is asked; said before anything
            is computed.
    """
    diffusion = load_drawing(s)
    real = open_real(s, diffusion)
    plan = make_plan(s, real)
    cast, canvas, leading = load(s, diffusion, real, s.class_ is not None or s.text is not None)
    target = None if s.class_ is None else class_index(s.class_, canvas, "--class")
    sampler = Sampler(cast, canvas, s, leading, target)
    out = s.out or Path("runs") / f"{_stem(s, canvas, target)}.h5"
    settings = _resolved(s, cast, canvas, leading, sampler, plan)
    finished = not s.force and is_result_of(out, settings, len(plan), Samples)
    if s.out is not None and not finished:
        check_output(out, s.force)
    picture = _picture(s, out)
    measured = real_features(s, cast, real, target)
    if s.out is None:
        make_folder(out.parent)
    seconds = None
    if not finished:
        with SampleParts(out, settings, len(plan), s.batch_size, force=s.force) as parts:
            seconds = _compute(parts, sampler, plan, progress)
    walks = walks_of(out, measured, s.seed)
    summary = GenerateSummary(
        result=out,
        picture=picture,
        direction=_direction(canvas, target, s.text, plan),
        sampler=s.solver if s.solver != "ddim" or not s.eta else f"ddim, eta {s.eta:g}",
        led_by=leading.words,
        walks=walks,
        against=None if isinstance(measured, str) else measured.images,
        not_measured=measured if isinstance(measured, str) else None,
    )
    draw(summary, plan)
    return replace(summary, seconds_per_image=seconds)


def _compute(parts: SampleParts, sampler: Sampler, plan: Plan, progress: Progress | None) -> float | None:
    """Fill and join the parts; seconds an image, None where all were there."""
    started, fresh = time.monotonic(), 0
    starts: dict[int, Start] = {}
    for start, stop in parts.todo():
        parts.write(start, sampler.rows(plan, arange(start, stop), starts))
        fresh += stop - start
        if progress is not None:
            left = sum(b - a for a, b in parts.missing())
            progress("drawing", len(plan) - left, len(plan))
    cast = sampler.cast
    parts.join(
        {
            "seed": sampler.s.seed,
            "models": cast.hashes,
            "direction": _direction(sampler.canvas, sampler.target, sampler.s.text, plan),
            "schedule": cast.schedule.config,
        }
    )
    return (time.monotonic() - started) / fresh if fresh else None


def _direction(canvas: Canvas, target: int | None, text: str | None, plan: Plan) -> str:
    """As the result states it: "noise -> positive (parasitized)", "noise -> 'a parasitized cell'", or of a path its
    ends, "a.png -> b.png", "seed 3 -> seed 17, positive (parasitized)"."""
    if text is not None:
        wanted = repr(text) + ("" if target is None else f" ({canvas.classes[target]})")
    else:
        wanted = "any class" if target is None else f"{('negative', 'positive')[target]} ({canvas.classes[target]})"
    if plan.position is None:
        return f"noise -> {wanted}"
    ends = [f"seed {seed}" for seed in plan.seed_ends or ()] if plan.ends is None else [str(i) for i in plan.ends.ids]
    return " -> ".join(ends) + ("" if target is None and text is None else f", {wanted}")


def _resolved(
    s: GenerateSettings, cast: Cast, canvas: Canvas, leading: Leading, sampler: Sampler, plan: Plan
) -> dict[str, Any]:
    """The settings as a result stores them: all that its images depend on, and no paths."""
    plain = s.model_dump(mode="json", exclude=PLACES | AFTERWARDS, by_alias=True)
    ends: list[Any] | None = None
    if plan.seed_ends is not None:
        ends = list(plan.seed_ends)
    elif plan.ends is not None:
        ends = [*map(str, plan.ends.ids), plan.ends.fingerprint]
    return {
        **plain,
        "command": "generate",
        "classes": list(canvas.classes),
        "dtype": canvas.dtype.name,
        "guides": leading.words,
        "clip": sampler.clip,
        "top": sampler.top,
        "ends": ends,
        **cast.facts,
    }


def _stem(s: GenerateSettings, canvas: Canvas, target: int | None) -> str:
    """Of the default output: generated, generated-parasitized, path, path-parasitized."""
    words = ["generated" if s.interpolate == "none" else "path", *(["text"] if s.text else [])]
    words += [] if target is None else [canvas.classes[target].replace("/", "-")]
    return "-".join(words)


def _picture(s: GenerateSettings, out: Path) -> Path:
    """Where the picture goes; UserError where it cannot."""
    if s.picture is None:
        return out.with_suffix(".png")
    if s.picture.suffix.lower() not in FORMATS:
        raise UserError(f"The picture {s.picture.name!r} should end in one of {', '.join(FORMATS)}.")
    check_output(s.picture, force=True, option="--picture")
    return s.picture
