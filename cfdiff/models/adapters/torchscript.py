"""TorchScript: `torch.jit.trace(net.eval(), x).save("mine.pt")`, or `torch.jit.script`."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Model
from cfdiff.models.foreign import describe, digest, foreign_model, said
from cfdiff.models.given import ModelFile

SUFFIXES = {".pt", ".pth", ".ts", ".jit", ".torchscript"}


class TorchScriptClassifiers:
    """The entry of registry.CLASSIFIERS."""

    @staticmethod
    def recognises(file: ModelFile) -> bool:
        """Whether it is named as such files, and those of pickles, are."""
        return isinstance(file, Path) and file.suffix in SUFFIXES and file.is_file()

    @staticmethod
    def known(file: ModelFile) -> dict[str, Any]:
        """A graph says nothing of what it takes."""
        return {}

    @staticmethod
    def load(file: ModelFile, device: torch.device, steers: bool) -> Model:
        """The graph, its code run as it stands: no optimisation that would differ from one call to the next."""
        assert isinstance(file, Path)
        _check(file)
        description = describe(TorchScriptClassifiers, file)
        try:
            with warnings.catch_warnings():  # newer versions of torch would rather have another format
                warnings.simplefilter("ignore")
                net = torch.jit.load(str(file), map_location=device).eval().float()
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"{file.name} is no readable TorchScript file ({said(error)}): copy or export it again."
            ) from error
        return foreign_model(file, "TorchScript", Plain(net), description, digest([file]), device)


class Plain(nn.Module):
    """A graph without the profiling executor, which rewrites it after some calls: a verdict must come out the same to
    the last bit whenever it is asked for."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        with torch.jit.optimized_execution(False):
            return self.net(x)


def _check(file: Path) -> None:
    """A TorchScript file is a zip with a folder of code; a pickle is none, or a zip without one."""
    names = zipfile.ZipFile(file).namelist() if zipfile.is_zipfile(file) else []
    if not any("/code/" in name for name in names):
        raise UserError(
            f"{file.name} is a pickled checkpoint and no TorchScript, and opening one can run any code: it is refused; "
            "save torch.jit.trace(net.eval(), images), or the weights of a timm model as safetensors."
        )
