"""Networks that torch.compile makes anew for this machine, in place: fewer kernels, the same answers to rounding.

Samples that end early leave the batch, so a network meets a batch of any size. On a GPU it is compiled for a few fixed
sizes, and a batch is filled up to the next of them: there a batch that is not full takes as long as one that is. On a
CPU each row costs its time, so there the second size is compiled for any, and nothing is filled up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.errors import UserError, first_line

GRAPHS = 128
"""Compiled forms that torch keeps of one function: of each size with a gradient and without, for networks of one kind
in several roles. It would stop at 8, and run what is beyond as it is."""
_plainly = False


def compile_networks(
    nets: Iterable[nn.Module], device: torch.device, batch: int | None = None, fixed: bool | None = None
) -> None:
    """Have each network compiled at its first call, and again for other sizes of a batch.

    What torch.jit made stays as it is. Nothing else of a run is compiled: noise, guidance and the step are float32 as
    before, so that only the networks' rounding differs.

    Args:
        batch: images at once, one of the sizes; None where it is a power of two, or not known.
        fixed: whether a batch is filled up to one of a few sizes (`FixedSizes`); None is so on everything but a CPU.

    Raises:
        UserError: nothing can be compiled here; said by a trial of one function.
    """
    fixed = device.type != "cpu" if fixed is None else fixed
    try:
        torch.compile(torch.nn.SiLU())(torch.zeros(2, device=device))
    except Exception as error:  # no compiler, no headers of Python, no Triton: each has its own
        raise UserError(
            f"--compile cannot be used here: {first_line(error)}. Install a C++ compiler, or leave it out."
        ) from error
    for net in nets:
        if isinstance(net, torch.jit.ScriptModule):
            continue
        if not fixed:
            net.compile()
            continue
        net.compile(dynamic=False)
        assert net._compiled_call_impl is not None
        # In the place where torch keeps it: a copy of the module, told otherwise, then is not compiled, as before.
        net._compiled_call_impl = FixedSizes(net._compiled_call_impl, net._call_impl, batch)
    if fixed:
        limits = torch._dynamo.config
        limits.cache_size_limit = max(limits.cache_size_limit, GRAPHS)


class FixedSizes:
    """A network of samples that do not see one another, asked for batches of few sizes: 1, 2, 4, ... and `batch`.

    A smaller batch is filled up with its last row, and what is answered to that is cut off. A gradient through the
    answer is that of the rows that were asked for: those that fill up are cut from it, in and out.

    Attributes:
        met: the sizes that the network was asked for.
    """

    def __init__(self, compiled: Callable[..., Any], plain: Callable[..., Any], batch: int | None = None) -> None:
        self._compiled, self._plain, self._batch = compiled, plain, batch
        self.met: set[int] = set()

    def __call__(self, *given: Any, **named: Any) -> Any:
        """As the network, whose first argument is (B, ...); whatever else has B rows is filled up, too."""
        if _plainly:
            return self._plain(*given, **named)
        n = len(given[0])
        size = self.size(n)
        self.met.add(size)
        if size > n:
            given, named = _each((given, named), lambda x: _filled(x, size) if len(x) == n else x)
        found = self._compiled(*given, **named)
        return found if size == n else _each(found, lambda x: x[:n] if len(x) == size else x)

    def size(self, n: int) -> int:
        """The size that a batch of `n` is filled up to."""
        power = 1 << max(0, n - 1).bit_length()
        return self._batch if self._batch is not None and n <= self._batch < power else power


@contextmanager
def as_they_are() -> Iterator[None]:
    """Within it networks of fixed sizes run uncompiled: a trial of a few images is not worth minutes of compiling."""
    global _plainly
    _plainly = True
    try:
        yield
    finally:
        _plainly = False


def _filled(x: Tensor, size: int) -> Tensor:
    """(size, ...) of (n, ...), with the last row again and again, detached from it."""
    return torch.cat([x, x[-1:].detach().expand(size - len(x), *x.shape[1:])])


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with its tensors of rows changed, in whatever tuples, lists and tables they are."""
    if isinstance(value, Tensor):
        return change(value) if value.ndim else value
    if isinstance(value, tuple | list):
        return type(value)(_each(part, change) for part in value)
    if isinstance(value, dict):
        return {name: _each(part, change) for name, part in value.items()}
    return value
