"""HDF5 files that are locked, packed by a filter that is not here, or on a disk that is full: the true reason."""

from __future__ import annotations

import errno
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cfdiff import hdf5
from cfdiff.data import open_source
from cfdiff.errors import UserError

HOLD = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"


def images(path: Path, **how: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4), **how)
        file["labels"] = np.arange(6) % 2
    return path


def test_data_that_another_program_writes_is_said_to_be_open_there(tmp_path: Path) -> None:
    path = images(tmp_path / "a.h5")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match=r"a\.h5 is open for writing in another program: close it there"):
            open_source(path)
        other.communicate("\n")
    assert len(open_source(path)) == 6


def test_our_own_files_are_read_whoever_holds_a_lock(tmp_path: Path) -> None:
    path = images(tmp_path / "a.h5")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with hdf5.open_to_read(path, "a.h5", "copy it again", whole=True) as file:
            assert len(file["labels"]) == 6
        other.communicate("\n")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_read_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path, real = images(tmp_path / "a.h5"), h5py.File

    def refuses(name: Any, mode: str = "r", locking: bool | None = None, **how: Any) -> h5py.File:
        if locking is not False:
            raise OSError(number, f"Unable to synchronously open file (unable to lock file, errno = {number})")
        return real(name, mode, locking=locking, **how)

    monkeypatch.setattr(h5py, "File", refuses)
    with hdf5.open_to_read(path, "a.h5", "copy it again") as file:
        assert len(file["labels"]) == 6


def test_a_missing_filter_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 4, 4))
        plist.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((6, 4, 4))
        made = h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, space, dcpl=plist)
        for row in range(6):
            made.write_direct_chunk((row, 0, 0), b"packed by blosc")
        file["labels"] = np.arange(6) % 2
    with pytest.raises(UserError, match=r"'images' of a\.h5 is packed by the HDF5 filter .* pip install hdf5plugin"):
        open_source(path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "no"), "may not be read"),
        (OSError(errno.EIO, "Input/output error"), "cannot be read from its disk"),
        (OSError("Unable to synchronously open file (file is already open for write)"), "h5clear -s"),
        (OSError("Can't synchronously read data (required filter 'lz4' is not registered)"), "filter 'lz4'"),
        (OSError("Unable to synchronously open file (truncated file: eof = 96)"), "truncated"),
    ],
)
def test_what_h5py_says_is_said_in_words(error: OSError, words: str) -> None:
    assert words in hdf5.reason(error, "copy it again")


def test_a_disk_that_fills_up_is_an_oserror_and_nothing_worse(tmp_path: Path) -> None:
    """As the system says it: beyond the limit on a file's size every write fails, those when the file is closed too."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64), dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError) as said, hdf5.create(tmp_path / "a.h5") as file:
            data = file.create_dataset("x", noise.shape, "u1", chunks=(1, 64, 64), compression="gzip")
            for row, image in enumerate(noise):
                data[row] = image
            file.attrs["more"] = "x" * 1000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert said.value.errno == errno.EFBIG


def test_what_is_written_so_is_read_back(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64), dtype=np.uint8)
    with hdf5.create(tmp_path / "a.h5") as file:
        file.create_dataset("x", data=noise, chunks=(1, 64, 64), compression="gzip")
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["x"][:] == noise).all()
