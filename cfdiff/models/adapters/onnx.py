"""ONNX: a checker runs as torch operations, which have a gradient; a verifier or judge in onnxruntime."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.adapters.onnx_graph import read_graph
from cfdiff.models.checkpoint import Model
from cfdiff.models.foreign import CLOSE, Foreign, describe, digest, foreign_model, said
from cfdiff.models.given import ModelFile


class OnnxClassifiers:
    """The entry of registry.CLASSIFIERS."""

    @staticmethod
    def recognises(file: ModelFile) -> bool:
        """Whether it is named .onnx."""
        return isinstance(file, Path) and file.suffix == ".onnx" and file.is_file()

    @staticmethod
    def known(file: ModelFile) -> dict[str, Any]:
        """Channels and size, where the graph was exported for one size."""
        assert isinstance(file, Path)
        _, channels, height, width = _image(file, need("onnx").load(str(file), load_external_data=False))
        found: dict[str, Any] = {} if channels is None else {"channels": channels}
        return found if height is None or width is None else found | {"size": [height, width]}

    @staticmethod
    def load(file: ModelFile, device: torch.device, steers: bool) -> Model:
        """One graph, run by the engine that the role needs."""
        assert isinstance(file, Path)
        onnx = need("onnx")
        try:
            proto = onnx.load(str(file))
        except Exception as error:  # protobuf, onnx and the system each have their own
            raise UserError(
                f"{file.name} is no readable ONNX file ({said(error)}): copy or export it again."
            ) from error
        outputs = proto.graph.output[0].type.tensor_type.shape.dim
        k = outputs[1].dim_value if len(outputs) > 1 and outputs[1].dim_value else None
        batch = _image(file, proto)[0]
        if batch is not None and batch > 1:
            raise UserError(
                f"{file.name} takes {batch} images at once, no more and no less: export it for one, or with "
                'dynamic_axes={"images": {0: "n"}}.'
            )
        description = describe(OnnxClassifiers, file, k)
        core: nn.Module = Differentiable(file, proto) if steers else Session(file)
        sha256 = digest([file, *_beside(file, proto)])
        model = foreign_model(file, "ONNX", core, description, sha256, device)
        if batch == 1:
            assert isinstance(model.net, Foreign)
            model.net.one_by_one = True
        return model


class Session(nn.Module):
    """A graph in onnxruntime, on one CPU thread, where verdicts are the same to the last bit. It has no gradient."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        runtime = need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class for each of its failures
            raise UserError(f"onnxruntime cannot run {file.name} ({said(error)}): export it again.") from error
        first = self.session.get_inputs()[0]
        self.input, self.float16 = first.name, first.type == "tensor(float16)"

    def forward(self, x: Tensor) -> Tensor:
        given = x.detach().cpu().to(torch.float16 if self.float16 else torch.float32).numpy()
        return torch.from_numpy(self.session.run(None, {self.input: given})[0]).to(x.device)


class Differentiable(nn.Module):
    """A graph as torch operations, and the same in onnxruntime to hold it against."""

    def __init__(self, file: Path, proto: Any) -> None:
        super().__init__()
        self.name, self.graph, self.peer = file.name, read_graph(proto, file.name), Session(file)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.graph(x)
        return found

    def verify(self, x: Tensor, outputs: Tensor) -> None:
        """Raise UserError unless onnxruntime gives the same `outputs` (B, K) for x, as the network takes it."""
        apart = float((self.peer(x).flatten(1).float() - outputs).abs().max())
        if not apart <= CLOSE * max(1.0, float(outputs.abs().max())):
            raise UserError(
                f"cfdiff's own reading of {self.name} and onnxruntime part by {apart:.3g}, so its gradient is not to "
                "be trusted: name it as --verifier or --judge, or give a checker as TorchScript or a timm model."
            )


def _image(file: Path, proto: Any) -> tuple[int | None, int | None, int | None, int | None]:
    """(B, C, H, W) of the input; None for what may be anything."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    images = [given for given in proto.graph.input if given.name not in weights]
    dims = [d.dim_value or None for d in images[0].type.tensor_type.shape.dim] if len(images) == 1 else []
    if len(dims) != 4:
        raise UserError(
            f"{file.name} takes {len(images)} inputs, of {len(dims) or 'several'} dimensions, and not images (n, "
            "channels, height, width) alone: export it so."
        )
    batch, channels, height, width = dims
    if channels not in (None, 1, 3):
        last = width in (1, 3)
        raise UserError(
            f"{file.name} takes images of {channels} channels"
            + (
                ", or has its channels last: export it with channels first."
                if last
                else ": it is no classifier of images."
            )
        )
    return batch, channels, height, width


def _beside(file: Path, proto: Any) -> list[Path]:
    """The files that hold weights outside of it, which are as much a part of it."""
    found = {
        entry.value
        for tensor in need("onnx").load(str(file), load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [file.parent / name for name in sorted(found)]


def need(package: str) -> Any:
    """The package; UserError where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"An .onnx file needs the package {package}: pip install 'cfdiff[onnx]'.") from error
