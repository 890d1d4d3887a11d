"""A small timm net of five classes in colour, to be saved in every way, and what it says of some images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from cfdiff.models.description import NORMALISATIONS, write_description

ARCH, KWARGS, SIZE = "resnet10t", {"channels": [8, 16, 16, 16], "stem_width": 8}, 32
TOLD: dict[str, Any] = {"classes": "3,1", "output": "logits", "normalisation": "imagenet", "channels": 3, "size": SIZE}


@dataclass(frozen=True)
class Net:
    """The network; `images` (4, 3, 32, 32) in [-1, 1]; `expected` (4, 3): logits of class 3, class 1 and the others."""

    net: nn.Module
    images: Tensor
    expected: Tensor

    def trace(self, path: Path, n: int = 2, side: int = SIZE) -> Path:
        torch.jit.trace(self.net, torch.zeros(n, 3, side, side)).save(str(path))
        return path

    def onnx(self, path: Path, **options: Any) -> Path:
        images = torch.zeros(1, 3, SIZE, SIZE)
        axes = {"dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"], **options}
        torch.onnx.export(self.net, (images,), str(path), dynamo=False, verbose=False, **axes)
        return path

    def described(self, path: Path, **changes: Any) -> Path:
        told = {key: value for key, value in (TOLD | changes).items() if value is not None}
        write_description(path, told)
        return path

    def agrees(self, net: nn.Module, atol: float = 1e-4) -> bool:
        return bool(torch.allclose(net(self.images), self.expected, atol=atol))


@pytest.fixture(scope="session")
def five() -> Net:
    torch.manual_seed(0)
    net = timm.create_model(ARCH, num_classes=5, **KWARGS)
    images = torch.rand(64, 3, SIZE, SIZE) * 2 - 1
    net.train()
    with torch.no_grad():
        for _ in range(20):  # statistics of batch norm, else the logits hardly depend on the image
            net(images)
    net.eval()
    nn.init.normal_(net.get_classifier().weight, std=0.5)
    images = images[:4]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALISATIONS["imagenet"])
    with torch.no_grad():
        logits = net(((images + 1) / 2 - mean) / std)
    expected = torch.stack([logits[:, 3], logits[:, 1], logits[:, [0, 2, 4]].logsumexp(1)], 1)
    return Net(net, images, expected)
