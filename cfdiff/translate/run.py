"""cfdiff translate: a stream of images to the other class, batch by batch, into one HDF5 result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfdiff.data.open import open_told
from cfdiff.data.source import Source, class_index, require_masks
from cfdiff.edit.memory import in_halves
from cfdiff.edit.recall import real_images, recall
from cfdiff.edit.roles import Cast, load_cast
from cfdiff.edit.texts import check_texts
from cfdiff.edit.tiling import ImageEditor, editor_of, tiles_of
from cfdiff.edit.verdicts import edit_arrays
from cfdiff.errors import UserError
from cfdiff.figures.panel import FORMATS
from cfdiff.figures.show import draw
from cfdiff.progress import Progress
from cfdiff.roles import WITNESSES
from cfdiff.settings import PLACES
from cfdiff.store import RunParts, check_output, open_result
from cfdiff.store.output import make_folder
from cfdiff.store.result import is_result_of
from cfdiff.translate.settings import TranslateSettings
from cfdiff.translate.summary import TranslateSummary, summarise


def translate(s: TranslateSettings, progress: Progress | None = None) -> TranslateSummary:
    """Run (or continue) a translation; returns the summary of the finished file.

    A file that these settings have made already is not made again where a preview of it is asked for.

    Raises:
        UserError: data, models, settings or output are not usable; said before anything is computed. A damaged image
            is met where its part is read: the parts before it stay.
    """
    source, target, real = select_images(s)
    out = s.out or _default_out(source, target)
    if Path(s.data).exists() and out.exists() and out.samefile(s.data):
        raise UserError(f"--out {out} is the file that the images come from: choose another --out.")
    if s.out is not None and not (s.preview is not None and out.is_file()):
        check_output(out, s.force, resumes=True)
    _check_preview(s.preview)
    check_texts(s)
    if s.mask == "data":
        require_masks(source, "--mask data")
    tiles = tiles_of(s)
    cast = load_cast(s, s.data, source, tiles)
    _check_preview_models(s, cast)
    editor = editor_of(cast, s, tiles, s.every_tile)
    settings = {**resolved(s, source), **cast.facts}
    seconds = None
    if s.force or s.preview is None or not is_result_of(out, settings, len(source)):
        if s.out is None:
            make_folder(out.parent)
        with RunParts(out, settings, len(source), s.batch_size, force=s.force) as parts:
            seconds = _compute(parts, editor, s, source, target, real, progress)
    if s.preview is not None:
        preview(out, s.preview)
    return replace(summarise(out), seconds_per_image=seconds)


def _compute(
    parts: RunParts,
    editor: ImageEditor,
    s: TranslateSettings,
    source: Source,
    target: int,
    real: Source | None,
    progress: Progress | None,
) -> float | None:
    """Fill and join the parts; seconds an image, None where all were there."""
    started, fresh = time.monotonic(), 0

    def edited(rows: Sequence[int]) -> dict[str, np.ndarray]:
        return translate_batch(editor, s, source, np.array(rows), target)

    for start, stop in parts.todo():
        parts.write(start, in_halves(edited, range(start, stop)))  # no name: one batch alive at a time
        fresh += stop - start
        if progress is not None:
            left = sum(b - a for a, b in parts.missing())
            progress("translating", len(source) - left, len(source))
    found = {} if parts.finished else recall(editor.cast, real, s.batch_size)
    parts.join(
        {
            **({"recall": {role: of_role.as_json() for role, of_role in found.items()}} if found else {}),
            "seed": s.seed,
            "models": editor.cast.hashes,
            "direction": direction(source, target),
            "schedule": editor.cast.schedule.config,
        }
    )
    return (time.monotonic() - started) / fresh if fresh else None


class Selected(NamedTuple):
    """The images to translate, the class index asked for, and real images of that class (None: there is none)."""

    source: Source
    target: int
    real: Source | None


def select_images(s: TranslateSettings) -> Selected:
    """The images to translate, where they go, and what is there already, in the same split."""
    whole = open_told(s)
    target = None if s.to is None else class_index(s.to, whole, "--to")
    if target is not None and "from_" not in s.model_fields_set:
        start = 1 - target  # --to alone says both
    else:
        start = class_index(s.from_, whole, "--from")
    target = 1 - start if target is None else target
    if target == start:
        raise UserError(
            f"--from and --to are both {whole.classes[start]!r}: translate goes from one class to the other."
        )
    split = s.split
    if split is None and whole.splits is not None and "test" in whole.splits:
        split = "test"
    source = whole.narrow(split, start, s.limit, s.seed)
    return Selected(source, target, real_images(whole.narrow(split), {target}, s.seed))


def translate_batch(
    editor: ImageEditor, s: TranslateSettings, source: Source, rows: np.ndarray, target: int
) -> dict[str, np.ndarray]:
    """Read, edit, judge: the arrays of one part (store.schema.SCHEMA)."""
    cast = editor.cast
    images = source.read(rows)
    ids = [str(i) for i in source.ids[rows]]
    masks = source.read_masks(rows) if s.mask == "data" else None
    edits = editor.edit(images, ids, target, masks)
    arrays = edit_arrays(cast, images, ids, source.labels[rows], target, edits)
    if source.groups is not None:
        arrays["group"] = source.groups[rows].astype(str)
    if source.pairs is not None:
        arrays["pair"] = source.pairs[rows]
    if edits.mask is not None:
        arrays["mask"] = edits.mask
    if s.factual:
        arrays["factual"], _ = editor.reconstruct(images, ids, source.labels[rows])
    return arrays


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
