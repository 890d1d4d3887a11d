"""What a model card or `--kwargs` may tell timm: the shape of a network, and nothing else.

`timm.create_model` also takes the names of checkpoints, hubs and caches, and opens what they name, in some versions as
a pickle, which can run any code. A model file comes from anywhere, so what it says is held against a list of what is
allowed.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import sys
from functools import lru_cache
from typing import Any

from torch import nn

from cfdiff.errors import UserError

OURS = {"num_classes", "in_chans"}
"""What cfdiff says itself."""
NEVER = {"device", "dtype", "features_only", "feature_cls", "out_indices", "pruned"}
"""Where and as what a network is built, not its shape."""


MOST = 100_000
"""The largest whole number in an argument: no network is as deep or wide, and one that were would never be built."""


def check_arguments(arch: str, arguments: dict[str, Any]) -> None:
    """Raise UserError for an argument that is none of the architecture's own, or no plain value.

    Args:
        arch: a known timm model.
    """
    allowed = architecture_arguments(arch.split(".")[0])
    for name, value in arguments.items():
        if name not in allowed:
            raise UserError(
                f"The argument {name!r} is refused for {arch!r}: only what shapes the network may be given "
                f"({_some(allowed)}), never a file, a hub or a cache; weights go in with --pretrained."
            )
        if not _plain(value):
            raise UserError(
                f"The argument {name!r} of {arch!r} is no plain value: numbers up to {MOST:,}, words, true, false and "
                "lists of them are allowed."
            )


@lru_cache
def architecture_arguments(name: str) -> frozenset[str]:
    """The arguments that the model classes of a timm model's own module take, and the fields of its configs there.

    Nothing that timm's factory and builder take for themselves is among them: those name checkpoints, hubs and caches.
    """
    import timm
    from timm.models import build_model_with_cfg

    module = sys.modules[timm.models.model_entrypoint(name).__module__]
    names: set[str] = set()
    for thing in vars(module).values():
        if isinstance(thing, type) and (_is_model(thing) or _is_config(thing)):
            kinds = inspect.signature(thing).parameters.values()
            names |= {p.name for p in kinds if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    taken = {k for build in (timm.create_model, build_model_with_cfg) for k in inspect.signature(build).parameters}
    return frozenset(names - taken - OURS - NEVER)


def is_plain_name(arch: str) -> bool:
    """Whether a name is a model's, with or without a tag of its weights: no path, no `hf-hub:`, no `local-dir:`."""
    return re.fullmatch(r"\w+(\.[\w-]+)?", arch) is not None


def _is_model(thing: type) -> bool:
    return issubclass(thing, nn.Module) and hasattr(thing, "get_classifier")


def _is_config(thing: type) -> bool:
    """Whether it is a configuration of architectures, as RegNet and ByobNet have; `_pretrained` has that of weights."""
    return dataclasses.is_dataclass(thing) and not thing.__module__.rpartition(".")[2].startswith("_")


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) <= MOST
    return value is None or isinstance(value, str)


def _some(allowed: frozenset[str]) -> str:
    """A few of many, those that are asked for most first."""
    usual = ("channels", "stem_width", "embed_dim", "depth", "depths", "dims", "img_size", "drop_rate")
    known = [name for name in usual if name in allowed] or sorted(allowed)
    return ", ".join(known[:4]) + ", …"
