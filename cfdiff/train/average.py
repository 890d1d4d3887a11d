"""The averaged weights of a training, which are what is validated and saved."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """The exponential moving average of a network's floating-point tensors; counters are copied.

    All tensors are averaged in a few calls (torch's foreach form), not one by one.
    """

    def __init__(
        self,
        net: nn.Module,
        decay: float,
        device: torch.device,
        saved: Callable[[nn.Module], nn.Module] = lambda net: net,
    ) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False).to(device)
        self.decay, self.saved = decay, saved

    @torch.no_grad()
    def update(self, current: nn.Module, step: int) -> None:
        """mean <- d mean + (1 - d) current, with d = min(decay, (1 + step) / (10 + step)): a short memory at first."""
        means, values = self.net.state_dict(), current.state_dict()
        floats = [k for k, mean in means.items() if mean.is_floating_point()]
        average = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        average([means[k] for k in floats], [values[k] for k in floats], step)
        for k in means.keys() - set(floats):
            means[k].copy_(values[k])

    @torch.no_grad()
    def as_saved(self, half: bool) -> nn.Module:
        """A copy of the network as its file will give it back: with `half`, each weight rounded to float16."""
        net = copy.deepcopy(self.saved(self.net))
        if half:
            for value in net.state_dict().values():
                if value.is_floating_point():
                    value.copy_(value.half())
        return net
