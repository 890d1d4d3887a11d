"""A device whose memory holds so many images and no more: the batch halves, and the arrays are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from cfdiff.edit.memory import free_memory, in_halves
from cfdiff.errors import UserError


def device(most: int, error: Exception) -> tuple[list[int], object]:
    sizes: list[int] = []

    def work(items: Sequence[int]) -> dict[str, np.ndarray]:
        sizes.append(len(items))
        if len(items) > most:
            raise error
        return {"a": np.array(items) ** 2, "b": np.array([[str(i)] for i in items])}

    return sizes, work


OUT = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT, ids=["cuda", "cpu", "python"])
@pytest.mark.parametrize("most", [1, 2, 5, 16])
def test_what_fits_in_pieces_is_what_would_have_fitted_at_once(error: Exception, most: int) -> None:
    sizes, work = device(most, error)
    found = in_halves(work, range(11))  # type: ignore[arg-type]
    assert found["a"].tolist() == [i**2 for i in range(11)]
    assert found["b"][:, 0].tolist() == [str(i) for i in range(11)]
    assert max(sizes) == 11 and sum(size for size in sizes if size <= most) == 11


@pytest.mark.parametrize("error", OUT, ids=["cuda", "cpu", "python"])
def test_one_that_does_not_fit_is_one_sentence(error: Exception) -> None:
    with pytest.raises(UserError, match="does not hold a single piece of work"):
        in_halves(device(0, error)[1], range(4))  # type: ignore[arg-type]


def test_other_mistakes_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        in_halves(device(0, RuntimeError("shapes do not fit"))[1], range(4))  # type: ignore[arg-type]


def test_free_memory_is_what_the_system_would_give(tmp_path: Path) -> None:
    cpu, told = torch.device("cpu"), tmp_path / "meminfo"
    told.write_text("MemTotal:  8388608 kB\nMemFree:  1024 kB\nMemAvailable:  524288 kB\n")
    assert free_memory(cpu, told) == 2**29
    assert free_memory(cpu, tmp_path / "none") is None
