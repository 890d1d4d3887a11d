"""Images in an HDF5 file as the JPEG, PNG or TIFF that they were: a data set of bytes of any length, one a row."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np

from cfdiff.data.fit import Fit, Shape
from cfdiff.data.readers.datasets import Dataset, rows_of
from cfdiff.data.readers.images import Look, decode, look
from cfdiff.data.readers.shown import profile_notes
from cfdiff.errors import UserError


class EncodedImages:
    """The images of such a data set; headers are checked at once, pixels are read on demand, as of files.

    `ids` (N,) are what messages call them, `notes` sentences on colour profiles. Raises UserError where they are not
    alike, or one is no image.
    """

    def __init__(self, dataset: Dataset, ids: np.ndarray, fit: Fit | None) -> None:
        self.dataset, self.ids, self.fit = dataset, ids, fit or Fit()
        found: Look | None = None
        profiles: list[str | None] = []
        for row in range(dataset.shape[0]):
            with self._file(row) as path:
                here = look(path, self._shown(row))
            profiles.append(here.profile)
            if found is not None and (self.fit.shape(here.shape), here.dtype) != (
                self.fit.shape(found.shape),
                found.dtype,
            ):
                raise UserError(
                    f"{self._shown(0)} is {found.shape} of {found.dtype} but {self._shown(row)} {here.shape} of "
                    f"{here.dtype}: all must be alike, `cfdiff data convert` with --size and --gray or --rgb makes "
                    "them so."
                )
            found = found or here
        assert found is not None, "a data set without rows is refused before"
        self.shape: Shape = self.fit.shape(found.shape)
        self.dtype = found.dtype
        self.notes = profile_notes(profiles)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images (B, H, W, C)."""
        return np.stack(list(self._each(rows)))

    def _each(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for row in rows.tolist():
            with self._file(row) as path:
                image = self.fit.image(decode(path, self._shown(row)))
            if image.shape != self.shape:
                raise UserError(f"{self._shown(row)} is not what its header says: copy {self.dataset.where} again.")
            yield image

    def _shown(self, row: int) -> str:
        return f"The image {str(self.ids[row])!r} of {self.dataset.where}"

    def _file(self, row: int) -> AbstractContextManager[Path]:
        return as_file(np.asarray(rows_of(self.dataset, np.array([row]))[0], np.uint8).tobytes())


@contextmanager
def as_file(data: bytes) -> Iterator[Path]:
    """A file of these bytes for as long as it is looked at: the readers of images read files."""
    with tempfile.NamedTemporaryFile(prefix="cfdiff-image-") as file:
        file.write(data)
        file.flush()
        yield Path(file.name)
