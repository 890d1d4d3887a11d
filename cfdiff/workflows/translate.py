"""cfdiff translate: a stream of images to the other class, batch by batch, into one HDF5 result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.data.values import to_model, unit
from cfdiff.engine import NoiseSchedule
from cfdiff.errors import UserError
from cfdiff.figures import FORMATS
from cfdiff.store import RunParts, check_output, open_result
from cfdiff.store.files import make_folder
from cfdiff.store.result import is_result_of
from cfdiff.store.schema import QUARANTINED
from cfdiff.workflows.cast import Cast, load_cast, probabilities
from cfdiff.workflows.edit import Editor, Edits
from cfdiff.workflows.edit_settings import EditSettings, TranslateSettings
from cfdiff.workflows.settings import PLACES
from cfdiff.workflows.show import draw
from cfdiff.workflows.summary import summarise

Progress = Callable[[int, int], None]
"""(images done, images in all)."""


def translate(s: TranslateSettings, progress: Progress | None = None) -> dict[str, Any]:
    """Run (or continue) a translation; returns the summary of the finished file.

    A file that these settings have made already is not made again where a preview of it is asked for.

    Raises:
        UserError: data, models, settings or output are not usable; said before anything is computed.
    """
    source, target = select_images(s)
    out = s.out or _default_out(source, target)
    if Path(s.data).exists() and out.exists() and out.samefile(s.data):
        raise UserError(f"--out {out} is the file that the images come from: choose another --out.")
    if s.out is not None and not (s.preview is not None and out.is_file()):
        check_output(out, s.force)
    _check_preview(s.preview)
    check_masks(s, source)
    cast = load_cast(s, s.data, source)
    _check_preview_models(s, cast)
    editor = Editor(cast, s)
    settings = {**resolved(s, source), "models": cast.hashes}
    seconds = None
    if s.force or s.preview is None or not is_result_of(out, settings, len(source)):
        source.check(s.batch_size, masks=s.mask == "data")
        if s.out is None:
            make_folder(out.parent)
        with RunParts(out, settings, len(source), s.batch_size, force=s.force) as parts:
            seconds = _compute(parts, editor, s, source, target, progress)
    if s.preview is not None:
        preview(out, s.preview)
    return {**summarise(out), "seconds_per_image": seconds}


def _compute(
    parts: RunParts, editor: Editor, s: TranslateSettings, source: Source, target: int, progress: Progress | None
) -> float | None:
    """Fill and join the parts; seconds an image, None where all were there."""
    started, fresh = time.monotonic(), 0
    for start, stop in parts.todo():
        parts.write(start, translate_batch(editor, s, source, np.arange(start, stop), target))
        fresh += stop - start
        if progress is not None:
            left = sum(b - a for a, b in parts.missing())
            progress(len(source) - left, len(source))
    parts.join(
        {
            "seed": s.seed,
            "models": editor.cast.hashes,
            "direction": direction(source, target),
            "schedule": editor.cast.schedule.config,
        }
    )
    return (time.monotonic() - started) / fresh if fresh else None


def select_images(s: TranslateSettings) -> tuple[Source, int]:
    """The images to translate and the class index asked for."""
    options: dict[str, Any] = {"negative": s.negative, "positive": s.positive, "group_key": s.group_key}
    whole = open_source(s.data, **options)
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
    return open_source(s.data, split=split, from_label=start, limit=s.limit, seed=s.seed, **options), target


def class_index(name: str, source: Source, option: str) -> int:
    """0 or 1 for "negative", "positive" or one of the data's class names."""
    known = ("negative", "positive", *source.classes)
    if name not in known:
        raise UserError(
            f"{option} {name!r} is no class of {source.name}: the known ones are {', '.join(dict.fromkeys(known))}."
        )
    return known.index(name) % 2


def translate_batch(
    editor: Editor, s: TranslateSettings, source: Source, rows: np.ndarray, target: int
) -> dict[str, np.ndarray]:
    """Read, edit, judge: the arrays of one part (store.schema.SCHEMA)."""
    cast = editor.cast
    images = source.read(rows)
    ids = [str(i) for i in source.ids[rows]]
    masks = source.read_masks(rows) if s.mask == "data" else None
    edits = editor.edit(images, ids, target, masks)
    arrays = {
        "id": np.array(ids),
        "label": source.labels[rows],
        "target": np.full(len(rows), target, np.int8),
        "source": images,
        "counterfactual": edits.counterfactual,
        "difference": (unit(edits.counterfactual) - unit(images)).astype(np.float16),
        "guidance/ratio": edits.ratio,
        "guidance/depth": edits.depth,
        "guidance/alpha_bar": _alpha_bar(cast.schedule, edits.depth),
        "guidance/retries": edits.retries,
        "guidance/network_calls": edits.network_calls,
        "guidance/guide_calls": edits.guide_calls,
    }
    if source.groups is not None:
        arrays["group"] = source.groups[rows].astype(str)
    if edits.mask is not None:
        arrays["mask"] = edits.mask
    if s.factual:
        arrays["factual"], _ = editor.reconstruct(images, ids)
    return arrays | verdicts(cast, images, edits, target)


def verdicts(cast: Cast, images: np.ndarray, edits: Edits, target: int) -> dict[str, np.ndarray]:
    """What checker and judge say before and after, on the saved values; `flipped` is the judge's word.

    A quarantined image has not flipped, whatever the judge says of its source.
    """
    before, after = (to_model(stage).to(cast.device) for stage in (images, edits.counterfactual))
    arrays: dict[str, np.ndarray] = {}
    if cast.checker is not None and edits.checker is not None:
        arrays["prob/checker"] = np.stack([probabilities(cast.checker, before).numpy(), edits.checker], axis=1)
    if cast.judge is not None:
        p = [probabilities(cast.judge, stage).numpy() for stage in (before, after)]
        arrays["prob/judge"] = np.stack(p, axis=1)
        arrays["flipped"] = (arrays["prob/judge"][:, 1, target] > 0.5) & ~edits.quarantined
    decided = arrays.get("flipped")
    if decided is None and "prob/checker" in arrays:
        decided = arrays["prob/checker"][:, 1, target] > 0.5
    status = "not judged" if decided is None else np.where(decided, "ok", "not flipped")
    return {**arrays, "status": np.where(edits.quarantined, QUARANTINED, status)}


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


def _alpha_bar(schedule: NoiseSchedule, depth: np.ndarray) -> np.ndarray:
    levels = [schedule.level_of(float(d)) for d in depth]
    return schedule.alpha_bar[levels].numpy().astype(np.float32)


def _default_out(source: Source, target: int) -> Path:
    words = f"{source.classes[1 - target]}-to-{source.classes[target]}"
    return Path("runs") / f"{words.replace('/', '-')}.h5"


def check_masks(s: EditSettings, source: Source) -> None:
    """Raise UserError where --mask data asks for masks that the source has not."""
    if s.mask == "data" and source.mask_reader is None:
        raise UserError(f"{source.name} has no masks, which --mask data needs: use --mask auto or none.")


def _check_preview_models(s: TranslateSettings, cast: Cast) -> None:
    if s.preview is not None and cast.judge is None and cast.checker is None:
        raise UserError("A preview shows probabilities, and there is neither judge nor checker: name one with --judge.")


def _check_preview(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"The preview {path.name!r} should end in one of {', '.join(FORMATS)}.")
    check_output(path, force=True, option="--preview")
