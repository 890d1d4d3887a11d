"""Where a run's images came from, as far as its file tells."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cfdiff.data.bundled import BUNDLED
from cfdiff.data.open import open_source
from cfdiff.data.source import Source
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
