"""Edits on trial: some images to the other class, at the first try."""

from __future__ import annotations

import numpy as np

from cfdiff.doctor.context import Context
from cfdiff.edit.editor import Editor


def trial_edits(context: Context, trim: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows (M,) of the images that walk the path, and their counterfactuals (M, H, W, C) as they would be saved.

    Without retries. `trim` stands in place of the setting where it is given.
    """
    s = context.s.model_copy(update={"retries": 0} | ({} if trim is None else {"trim": trim}))
    editor, rows = Editor(context.cast, s), context.path_rows
    done, labels = np.empty_like(context.stored[rows]), context.labels[rows]
    for label in np.unique(labels).tolist():
        mine = rows[labels == label]
        masks = context.data.read_masks(mine) if s.mask == "data" else None
        ids = [context.ids[i] for i in mine]
        done[labels == label] = editor.edit(context.stored[mine], ids, 1 - label, masks).counterfactual
    return rows, done
