"""Anything that can be read, as one .npz of equal images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cfdiff.data.raw import save_npz
from cfdiff.data.source import OTHER, Source
from cfdiff.errors import UserError

BATCH = 256


def convert(source: Source, out: Path, force: bool = False) -> Path:
    """Write `images`, `labels`, `classes`, `id` and, where there are, `group`, `split`, `pair` and `masks`.

    The images are held in memory. What is written reads back as the same source.
    """
    if out.suffix.lower() != ".npz":
        raise UserError(f"{out.name} is no .npz: the output of convert is always one, name it {out.stem}.npz.")
    if out.exists() and not force:
        raise UserError(f"{out.name} exists already: choose another name or overwrite it with --force.")
    if np.any(source.labels == OTHER):
        raise UserError(f"{source.name} has images of other classes: only the two classes can be written.")
    everything = np.arange(len(source))
    batches = [everything[start : start + BATCH] for start in range(0, len(source), BATCH)]
    images = np.concatenate([source.read(batch) for batch in batches])
    arrays = {
        "images": images[..., 0] if source.shape[2] == 1 else images,
        "labels": source.labels.astype(np.uint8),
        "classes": np.array(source.classes),
        "id": source.ids,
    }
    if source.groups is not None:
        arrays["group"] = source.groups
    if source.splits is not None:
        arrays["split"] = source.splits
    if source.pairs is not None:
        arrays["pair"] = source.pairs
    masks = [source.read_masks(batch) for batch in batches]
    if masks[0] is not None:
        arrays["masks"] = np.concatenate([mask for mask in masks if mask is not None])
    save_npz(out, arrays)
    return out
