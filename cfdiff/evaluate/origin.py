"""Where a run's images came from, as far as its file tells."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from cfdiff.data.bundled import BUNDLED
from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.edit.tile_settings import TileSettings
from cfdiff.errors import UserError
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.store.runs import Run


@lru_cache(maxsize=1)
def bundled_data(run: Run) -> str | None:
    """The bundled data that the run was made from; None where it only bears such a name."""
    name = run.settings["data"]
    if name not in BUNDLED:
        return None
    data = open_source(name)
    place = {str(i): row for row, i in enumerate(data.ids)}
    if data.shape != run.shape or not all(str(i) in place for i in run.ids):
        return None
    return name if (data.read([place[str(run.ids[0])]])[0] == run.read(np.arange(1))[0][0]).all() else None


def open_beside(
    s: EvaluateSettings, run: Run, spec: str, *, keep_other: bool = False, splits: Path | None = None
) -> Source:
    """A source that a run is measured with, in the run's classes; --layout and --reading are told of --data alone."""
    return open_source(
        spec,
        layout=s.layout_of(spec),
        reading=s.reading_of(spec),
        negative=run.classes[0],
        positive=run.classes[1],
        keep_other=keep_other,
        splits=splits,
    )


def rows_of(run: Run, source: Source, batch: int) -> np.ndarray:
    """(N,) the row of each of the run's images in a source, which is found by id and held against its pixels.

    Raises:
        UserError: the source does not know an image, or has another one of that id or size.
    """
    place = {str(name): row for row, name in enumerate(source.ids)}
    unknown = [name for name in map(str, run.ids) if name not in place]
    if unknown:
        raise UserError(
            f"{source.name} does not know {len(unknown)} of the {len(run)} images of {run.path.name} "
            f"(the first is {unknown[0]!r}): give the data that the run was made from."
        )
    if source.shape != run.shape:
        raise UserError(
            f"{source.name} has images of {source.shape} and {run.path.name} of {run.shape}: "
            "give the data that the run was made from."
        )
    rows = np.array([place[str(name)] for name in run.ids])
    for i in range(0, len(run), batch):
        here = np.arange(i, min(i + batch, len(run)))
        # Ids may be mere row numbers, which any data has: only the pixels tell whether these are the run's images.
        other = np.flatnonzero((source.read(rows[here]) != run.read(here)[0]).any(axis=(1, 2, 3)))
        if len(other):
            raise UserError(
                f"The image {str(run.ids[here[other[0]]])!r} of {source.name} is not the one in {run.path.name}: "
                "give the data that the run was made from."
            )
    return rows


def tiling(run: Run) -> TileSettings:
    """How the run cut its images into tiles; older files do not say, and were of whole images."""
    return TileSettings(**{name: run.settings[name] for name in TileSettings.model_fields if name in run.settings})


def as_source(run: Run) -> Source:
    """The source images as a data source: what checks models against data takes one."""
    return Source(
        name=run.path.name,
        ids=run.ids,
        labels=run.label,
        classes=run.classes,
        groups=run.groups,
        splits=None,
        shape=run.shape,
        dtype=run.dtype,
        reader=lambda rows: run.read(rows)[0],
        mask_reader=None,
        digest=lambda rows: "",
        rows=np.arange(len(run)),
    )
