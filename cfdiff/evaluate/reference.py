"""The real images that a run is measured beside: --reference, --data, or the run's own bundled data."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from cfdiff.data.source import Source
from cfdiff.data.splitting import TEST, own_split
from cfdiff.edit.recipe import fitted_splits
from cfdiff.errors import UserError
from cfdiff.evaluate.origin import bundled_data, open_beside
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.models.bundled import weights_folder
from cfdiff.store.runs import Run


class Reference(NamedTuple):
    """Real images of both classes, and the split that they are; None: all there are."""

    images: Source
    split: str | None


@lru_cache(maxsize=1)
def open_reference(s: EvaluateSettings, run: Run) -> Reference | None:
    """The real images of both classes, in the split of the run where they have it; None where nobody named any.

    Raises:
        UserError: the source cannot be read, has no such split, or holds images of another size.
    """
    spec = s.reference or s.data or bundled_data(run)
    if spec is None:
        return None
    fitted = None if s.weights is None or s.splits else fitted_splits(weights_folder(s.weights), spec)
    try:
        whole = open_beside(s, run, spec, splits=s.splits or fitted)
    except UserError:
        if fitted is None:
            raise
        whole = open_beside(s, run, spec)  # other data of that name
    split = _split(s, run, whole)
    source = whole.narrow(split)
    if source.shape != run.shape:
        raise UserError(
            f"The real images of {source.name} are {source.shape} and those of {run.path.name} {run.shape}: "
            "give --reference images of the same size and channels."
        )
    return Reference(source, split)


def _split(s: EvaluateSettings, run: Run, whole: Source) -> str | None:
    """--split, else the run's where these images have it too, else test; None is all."""
    known = set() if whole.splits is None else set(whole.splits.tolist())
    if s.split is not None:
        return None if s.split == "all" and s.split not in known else s.split
    usual = (run.settings.get("split"), own_split(whole, TEST))
    return next((split for split in usual if split is not None and set(split.split("+")) <= known), None)
