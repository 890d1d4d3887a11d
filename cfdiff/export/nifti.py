"""The difference map of a volume as NIfTI: where the volume is, so that a viewer lays it over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cfdiff.data.readers.held import need
from cfdiff.data.readers.nifti import WHAT, opened, places_in_file
from cfdiff.data.readers.reading import Slices
from cfdiff.export.original import Original
from cfdiff.files import atomic
from cfdiff.store import Result


def write_difference(result: Result, original: Original, folder: Path, names: bool) -> list[Path]:
    """`NAME_difference.nii.gz` (X, Y, Z) float32: counterfactual - source, 1 is the full range from black to white.

    0 where no slice was translated. Nothing of the file's header is copied but how it lies in the body.
    """
    nibabel = need("nibabel", "nifti", original.name, WHAT)
    image = opened(original.path, original.name)
    where = places_in_file(image, original.name, original.reading)  # (slices, rows, columns)
    chosen = list((original.reading.slices or Slices(None, None, 1, False)).of(len(where)))
    values = np.zeros(where.size, np.float32)
    for row, place in zip(original.rows, original.places, strict=True):
        values[where[chosen[place]]] = result.difference[row][..., 0]
    volume = values.reshape([*image.shape, 1][:3])
    made = nibabel.Nifti1Image(volume, image.affine)
    made.set_sform(*image.get_sform(coded=True))  # as its file says them, or a viewer lays one over the other turned
    made.set_qform(*image.get_qform(coded=True))
    made.header.set_zooms((*image.header.get_zooms(), 1.0)[:3])
    made.header.set_xyzt_units(*image.header.get_xyzt_units())
    made.header["descrip"] = b"cfdiff: counterfactual - source"
    made.header["cal_max"] = max(float(np.abs(volume).max()), 1e-6)
    made.header["cal_min"] = -made.header["cal_max"]
    stem = original.target.removesuffix(".gz").removesuffix(".nii")
    out = folder / f"{stem}_difference.nii.gz"
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as scratch:
        packed = scratch.with_name(scratch.name + ".nii.gz")  # nibabel goes by the ending
        try:
            nibabel.save(made, packed)
            packed.replace(scratch)
        finally:
            packed.unlink(missing_ok=True)
    return [out]
