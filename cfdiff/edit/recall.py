"""The recall that stands beside every flip rate: what the same model says of real images of the class asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cfdiff.data.source import Source, random_subset
from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Model
from cfdiff.roles import ROLES
from cfdiff.store.recall import Recall, recall_of
from cfdiff.store.schema import SCHEMA

MOST = 512
"""Real images at most: a recall of 90 % is then known to about 3 percentage points, for one pass of small networks."""


AN_EDIT = 16
"""Real images for each edited one at most: a recall known far better than the flip rate beside it is time lost."""


def real_images(whole: Source, labels: set[int], seed: int, edited: int | None = None) -> Source | None:
    """At most `MOST` of the images of these classes, spread over groups and classes; None where there is none.

    Args:
        edited: images whose flip rate it stands beside, which are fewer where a run is only a look.
    """
    found = whole.select(np.flatnonzero(np.isin(whole.labels, sorted(labels))))
    most = MOST if edited is None else min(MOST, AN_EDIT * edited)
    return random_subset(found, most, seed) if len(found) and most else None


def recognised(
    models: Mapping[str, Model], real: Source, batch: int
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Name -> (M,) bool, whether a model gives each real image its own class; and the groups (M,) of the images.

    An image that cannot be read is left out: it is none that anybody asked to edit.
    """
    parts = [
        part
        for start in range(0, len(real), batch)
        for part in _ask(models, real, np.arange(start, min(start + batch, len(real))))
    ]
    rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in parts)])
    return (
        {name: np.concatenate([np.empty(0, bool), *(hits[name] for _, hits in parts)]) for name in models},
        None if real.groups is None else real.groups[rows],
    )


def recall(cast: Cast, real: Source | None, batch: int) -> dict[str, Recall]:
    """Role -> recall of every model of the cast whose probabilities a result holds; empty without real images."""
    cast_in = {role: model for role in ROLES if (model := getattr(cast, role)) is not None and f"prob/{role}" in SCHEMA}
    if real is None or not cast_in:
        return {}
    hits, groups = recognised(cast_in, real, batch)
    return {role: recall_of(known, groups) for role, known in hits.items() if len(known)}


def _ask(models: Mapping[str, Model], real: Source, rows: np.ndarray) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Rows and hits of one batch; one by one where an image of it is damaged, and none of that image."""
    try:
        images = real.read(rows)
    except UserError:
        return [] if len(rows) == 1 else [part for row in rows for part in _ask(models, real, np.array([row]))]
    labels, hits = real.labels[rows].astype(np.int64), {}
    for name, model in models.items():
        x = to_model(images).to(model.device)
        hits[name] = probabilities(model, x).numpy()[np.arange(len(rows)), labels] > 0.5
    return [(rows, hits)]
