"""The memory of a device: how much is free; a batch that does not fit it is done in halves, with the same edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from cfdiff.errors import UserError

T = TypeVar("T")


def in_halves(work: Callable[[Sequence[T]], dict[str, np.ndarray]], items: Sequence[T]) -> dict[str, np.ndarray]:
    """`work(items)`, arrays (len(items), ...); where the device has not the memory, of one half and then of the other.

    Raises:
        UserError: a single one does not fit.
    """
    try:
        return work(items)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        if len(items) == 1:
            raise UserError(
                "The memory of the device does not hold a single piece of work: use smaller images, a smaller "
                "--batch-size (of tiles, or of a joint bag), --precision bf16, or --device cpu."
            ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # outside the handler, which holds on to the tensors of the frames that failed
    middle = len(items) // 2
    first, second = in_halves(work, items[:middle]), in_halves(work, items[middle:])
    return {name: np.concatenate([first[name], second[name]]) for name in first}


def free_memory(device: torch.device, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Free memory in bytes, on a CPU with what the system would give back; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not meminfo.exists():
        return None
    told = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(told["MemAvailable"].split()[0]) * 1024


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a GPU, or the machine, has no memory left."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return "out of memory" in str(error) or "can't allocate memory" in str(error)
