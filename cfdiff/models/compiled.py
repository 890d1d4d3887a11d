"""Networks that torch.compile makes anew for this machine, in place: fewer kernels, the same answers to rounding."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from cfdiff.errors import UserError, first_line


def compile_networks(nets: Iterable[nn.Module], device: torch.device) -> None:
    """Have each network compiled at its first call, and again where the size of a batch changes for the first time.

    What torch.jit made stays as it is. Nothing else of a run is compiled: noise, guidance and the step are float32 as
    before, so that only the networks' rounding differs.

    Raises:
        UserError: nothing can be compiled here; said by a trial of one function.
    """
    try:
        torch.compile(torch.nn.SiLU())(torch.zeros(2, device=device))
    except Exception as error:  # no compiler, no headers of Python, no Triton: each has its own
        raise UserError(
            f"--compile cannot be used here: {first_line(error)}. Install a C++ compiler, or leave it out."
        ) from error
    for net in nets:
        if not isinstance(net, torch.jit.ScriptModule):
            net.compile()
