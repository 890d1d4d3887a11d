"""The HDF5 file of `cfdiff evaluate --save`: what was measured of every image, and the curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cfdiff.files import atomic
from cfdiff.hdf5 import create
from cfdiff.version import __version__

FORMAT = "cfdiff-evaluation"
FORMAT_VERSION = 1


def write_evaluation(path: Path, arrays: dict[str, np.ndarray], figures: dict[str, Any]) -> None:
    """Write `arrays` (numbers or str, any shapes) and, as the root attribute `figures`, the JSON of all figures."""
    with atomic(path) as scratch, create(scratch) as file:
        file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, "cfdiff_version": __version__})
        file.attrs["figures"] = json.dumps(figures, sort_keys=True)
        for name, values in sorted(arrays.items()):
            text = values.dtype.kind in "UO"
            file.create_dataset(
                name,
                data=values.astype(object) if text else values,
                dtype=h5py.string_dtype() if text else values.dtype,
                compression="gzip",
                track_times=False,
            )
