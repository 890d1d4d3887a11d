"""Reader for one file that holds many images, given by itself: a multi-frame DICOM, a volume, a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cfdiff.data.columns import Columns
from cfdiff.data.fit import Fit
from cfdiff.data.raw import Format, Raw
from cfdiff.data.readers.held import HeldFiles, kind_of
from cfdiff.data.readers.images import SUFFIXES
from cfdiff.data.readers.reading import AS_IT_SAYS, Reading
from cfdiff.errors import UserError


def read_single(
    path: Path,
    name: str,
    fit: Fit | None = None,
    unlabelled: bool = False,
    layout: str | None = None,
    reading: Reading = AS_IT_SAYS,
) -> Raw:
    """The images of one file. It says no class, so that it serves only where images may be `unlabelled`."""
    if not unlabelled:
        raise UserError(
            f"{name} does not say the class of its images: put it into a folder of that name, or list it in a .csv "
            "with path,label (and slice or frame)."
        )
    images = HeldFiles([path], np.array([path.name]), fit, reading)
    return Raw(
        name=name,
        ids=images.ids,
        labels=np.full(len(images.ids), ""),
        splits=None,
        shape=images.shape,
        dtype=images.dtype,
        reader=images.read,
        digest=images.digest,
        columns=Columns(images.columns, images.asked),
        default_group=images.group,
        notes=images.notes,
    )


def _recognises(path: Path) -> bool:
    """Also one ordinary picture: a TIFF may be a slide, as `--reading` says."""
    return path.is_file() and (path.suffix.lower() in SUFFIXES or kind_of(path, AS_IT_SAYS) is not None)


FORMAT = Format(_recognises, read_single, None, read_single)
