"""A network or function of the caller, in the Python API (cfdiff.as_classifier)."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import torch
from torch import nn

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Model
from cfdiff.models.foreign import describe, foreign_model
from cfdiff.models.given import Given, ModelFile


class GivenClassifiers:
    """The entry of registry.CLASSIFIERS."""

    @staticmethod
    def recognises(file: ModelFile) -> bool:
        """Whether it is no file."""
        return isinstance(file, Given)

    @staticmethod
    def known(file: ModelFile) -> dict[str, Any]:
        """A network says nothing of itself."""
        return {}

    @staticmethod
    def load(file: ModelFile, device: torch.device, steers: bool) -> Model:
        """A copy of a module in float32, so that the caller's stays as it is; a function itself."""
        assert isinstance(file, Given)
        core = file.net
        if isinstance(core, nn.Module):
            try:
                core = copy.deepcopy(core).float()
            except Exception as error:  # whatever a module of the caller raises
                raise UserError(
                    f"The network {file.name!r} cannot be copied ({type(error).__name__}): give a function that calls "
                    "it."
                ) from error
        return foreign_model(file, "Python", core, describe(GivenClassifiers, file), _hash(file), device)


def _hash(file: Given) -> str:
    """sha256 of the class, the version and, of a module, all names and values of its state."""
    whole = hashlib.sha256(f"{type(file.net).__qualname__}/{file.name}/{file.version}".encode())
    if isinstance(file.net, nn.Module):
        for name, value in sorted(file.net.state_dict().items()):
            tensor = value.detach().cpu().contiguous() if isinstance(value, torch.Tensor) else torch.tensor([])
            whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            whole.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return whole.hexdigest()
