"""Additions of low rank to the weights of a network, by peft: W + B A with B and A trained (Hu et al. 2022).

B begins as zero, so that the network begins as it was, bit for bit.
"""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

from torch import nn

from cfdiff.errors import UserError

MISSING = (
    "Additions of low rank are made with peft, which is not installed: pip install 'cfdiff[adapt]', or --all-weights."
)


def need_peft() -> None:
    """Raise UserError where peft is not installed; it is not imported, which takes seconds."""
    if importlib.util.find_spec("peft") is None:
        raise UserError(MISSING)


def low_rank(net: nn.Module, rank: int) -> nn.Module:
    """`net` with additions of that rank, at least 1, to each of its convolutions and linear maps but those of a
    condition encoder, in place; everything else is frozen."""
    need_peft()
    from peft import LoraConfig, inject_adapter_in_model

    kinds = (nn.Linear, nn.Conv2d, nn.Conv1d)
    names = [
        name for name, layer in net.named_modules() if isinstance(layer, kinds) and not name.startswith("encoder.")
    ]
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=names)
    found: nn.Module = inject_adapter_in_model(config, net)
    return found


def merged(net: nn.Module) -> nn.Module:
    """A copy of a network of `low_rank` whose additions have become part of its weights; a copy of any other."""
    net = copy.deepcopy(net)
    if importlib.util.find_spec("peft") is None:
        return net
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[tuple[str, Any]] = [(name, m) for name, m in net.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in layers:
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(net.get_submodule(parent), own, layer.get_base_layer())
    return net
