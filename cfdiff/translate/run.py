"""cfdiff translate: a stream of images to the other class, batch by batch, into one HDF5 result."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.outlines import require_lines
from cfdiff.data.seen import Seen
from cfdiff.data.source import Source, require_masks
from cfdiff.edit.batch import BatchSize, Work, batch_size
from cfdiff.edit.cast import Cast
from cfdiff.edit.recall import recall
from cfdiff.edit.sight import Sight
from cfdiff.edit.tiling import ImageEditor, editor_of, tiles_of
from cfdiff.edit.words import settled
from cfdiff.errors import UserError
from cfdiff.figures.panel import FORMATS
from cfdiff.figures.show import draw
from cfdiff.files import is_there
from cfdiff.progress import Progress, note, silent
from cfdiff.roles import WITNESSES
from cfdiff.settings import PLACES
from cfdiff.shard import ShardSummary
from cfdiff.store import RunParts, check_output, open_result
from cfdiff.store.output import make_folder, parts_dir
from cfdiff.store.remote import RemoteParts
from cfdiff.store.result import is_result_of
from cfdiff.store.shards import write_attributes_file
from cfdiff.translate.ahead import reading_ahead
from cfdiff.translate.select import select_images
from cfdiff.translate.settings import TranslateSettings
from cfdiff.translate.summary import TranslateSummary, summarise
from cfdiff.translate.work import PartWriter, cast_of, part_writer
from cfdiff.workers.crew import Elsewhere, crew
from cfdiff.workers.settings import sharing


def translate(s: TranslateSettings, progress: Progress | None = None) -> TranslateSummary | ShardSummary:
    """Run (or continue) a translation; returns the summary of the finished file, or of the shard that was asked for.

    A file that these settings have made already is not made again where a preview of it is asked for.

    Raises:
        UserError: data, models, settings or output are not usable; said before anything is computed. A damaged image
            is met where its part is read: the parts before it stay.
    """
    remote = RemoteParts.at(s.remote)
    source, target, real = select_images(s)
    s = s.for_target(target)
    out = s.out or _default_out(source, target)
    if is_there(Path(s.data)) and out.exists() and out.samefile(s.data):
        raise UserError(f"--out {out} is the file that the images come from: choose another --out.")
    if s.out is not None and not (s.preview is not None and out.is_file()):
        check_output(out, s.force, resumes=True)
    _check_preview(s.preview)
    if s.shard is not None and s.preview is not None:
        raise UserError("A shard makes no preview, as it has a share of the images: leave --preview out.")
    s = settled(s, s.data)
    if s.mask == "data":
        require_masks(source, "--mask data")
    require_lines(s.control, source)
    tiles = tiles_of(s)
    cast = cast_of(s, source, target, tiles)
    _check_preview_models(s, cast)
    editor_of(cast, s, tiles)  # says what cannot be edited so
    seen = Seen(source, parts_dir(out))
    settings = {**resolved(s, seen.source), **cast.facts}
    work = Work(source, target, tiles, len(source), *sharing(s))
    batch = batch_size(s, cast, work, out, settings, s.force)
    settings, seconds = {**settings, "batch_size": batch.number}, None
    if s.force or s.preview is None or not is_result_of(out, settings, len(source)):
        if s.out is None:
            make_folder(out.parent)
        shard, size = s.which_shard, batch.number
        with RunParts(
            out, settings, len(source), size, force=s.force, shard=shard, remote=remote, adopts=batch.found
        ) as run:
            seen.keep()
            batch = batch.agreed(run.part_size)
            s = s.model_copy(update={"batch_size": batch.number})
            editor = editor_of(cast, s, tiles, s.every_tile)
            if batch.said and not run.finished:
                note(progress, batch.said)
            seconds = _compute(run, editor, s, source, target, progress)
            attributes = {} if run.finished else _attributes(s, editor, source, target, real)
            if run.shard is not None:
                return _end_shard(run, attributes, out, batch)
            run.join(attributes, s.volume)
    if s.preview is not None:
        preview(out, s.preview)
    return replace(summarise(out), seconds_per_image=seconds, batch_size_because=batch.why)


def _compute(
    run: RunParts, editor: ImageEditor, s: TranslateSettings, source: Source, target: int, progress: Progress | None
) -> float | None:
    """Fill the parts, here or by workers; seconds an image, None where all were there."""
    pieces = run.missing(progress or silent)
    run.push()  # what was done here when the store could not be reached
    started, fresh = time.monotonic(), 0
    n = sum(stop - start for start, stop in run.ranges)
    there = n - sum(stop - start for start, stop in pieces)
    elsewhere = Elsewhere(part_writer, (s, run.files, Sight.of(source, editor.cast)))
    with (
        reading_ahead(source, pieces) as ahead,
        crew(s, lambda: PartWriter(editor, s, ahead, target, run.files), elsewhere) as workers,
    ):
        for (start, stop), _ in workers.do(pieces):
            run.wrote(start)
            fresh += stop - start
            if progress is not None:
                progress("translating", there + fresh, n)
    return (time.monotonic() - started) / fresh if fresh else None


def _attributes(
    s: TranslateSettings, editor: ImageEditor, source: Source, target: int, real: Source | None
) -> dict[str, Any]:
    """The root attributes of the result, beside the settings. Of several shards the first alone finds the recall."""
    if s.which_shard is not None and s.which_shard.number != 1:
        return {}
    found = recall(editor.cast, real, s.batch)
    return {
        **({"recall": {role: of_role.as_json() for role, of_role in found.items()}} if found else {}),
        "seed": s.seed,
        "models": editor.cast.hashes,
        "direction": direction(source, target),
        "schedule": editor.cast.schedule.config,
    }


def _end_shard(run: RunParts, attributes: dict[str, Any], out: Path, batch: BatchSize) -> ShardSummary:
    assert run.shard is not None
    if not run.finished:
        if attributes:
            write_attributes_file(run.folder, attributes)
        run.finish_shard()
    images = sum(stop - start for start, stop in run.ranges)
    at = None if run.remote is None else run.remote.name
    return ShardSummary(out.name, run.shard, len(run.ranges), images, batch.number, batch.why, at)


def direction(source: Source, target: int) -> str:
    """As the result states it: "negative (uninfected) -> positive (parasitized)"."""
    words = [f"{part} ({name})" for part, name in zip(("negative", "positive"), source.classes, strict=True)]
    return f"{words[1 - target]} -> {words[target]}"


def resolved(s: TranslateSettings, source: Source) -> dict[str, Any]:
    """The settings as a result stores them: no paths, but what the images and classes were."""
    plain = s.model_dump(mode="json", exclude=PLACES, by_alias=True)
    return {
        **plain,
        "command": "translate",
        "data": source.name,
        "data_sha256": source.fingerprint,
        "classes": list(source.classes),
    }


def preview(result: Path, out: Path, count: int = 24) -> Path:
    """Draw images spread evenly over the result, failures as they come."""
    with open_result(result) as r:
        return draw(r, np.unique(np.linspace(0, len(r) - 1, min(count, len(r))).round().astype(int)), out)


def _default_out(source: Source, target: int) -> Path:
    words = f"{source.classes[1 - target]}-to-{source.classes[target]}"
    return Path("runs") / f"{words.replace('/', '-')}.h5"


def _check_preview_models(s: TranslateSettings, cast: Cast) -> None:
    if s.preview is not None and not any(getattr(cast, who) for who in WITNESSES):
        raise UserError("A preview shows probabilities, and no model here gives any: name one with --judge.")


def _check_preview(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"The preview {path.name!r} should end in one of {', '.join(FORMATS)}.")
    check_output(path, force=True, option="--preview")
