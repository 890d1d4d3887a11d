from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from cfdiff.errors import UserError
from cfdiff.models.features import judge_features
from cfdiff.models.foreign import load_classifier


@pytest.mark.parametrize("suffix", [".pt", ".ts"])
def test_a_trace_says_what_the_network_says_with_its_gradient(five: Any, tmp_path: Path, suffix: str) -> None:
    model = load_classifier(five.described(five.trace(tmp_path / f"mine{suffix}")))
    assert five.agrees(model.net)
    model.net.check((32, 32, 3), steers=True)
    assert not model.net.one_by_one


def test_an_answer_is_the_same_to_the_last_bit_whenever_it_is_asked_for(five: Any, tmp_path: Path) -> None:
    """The profiling executor rewrites a graph after its first calls."""
    model = load_classifier(five.described(five.trace(tmp_path / "mine.pt")))
    first, *others = (model.net(five.images) for _ in range(5))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("content", [{"weights": torch.zeros(3)}, torch.nn.Linear(2, 2)])
def test_a_pickle_is_refused(five: Any, tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "mine.pt")
    with pytest.raises(UserError, match="pickled checkpoint and no TorchScript.*it is refused"):
        load_classifier(five.described(tmp_path / "mine.pt"))


def test_a_file_that_is_damaged_or_empty(five: Any, tmp_path: Path) -> None:
    path = five.described(five.trace(tmp_path / "mine.pt"))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="mine.pt"):
        load_classifier(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="mine.pt"):
        load_classifier(path)


@pytest.mark.parametrize(
    ("told", "images"), [({"channels": 1, "normalisation": "unit"}, (32, 32, 1)), ({"size": 8}, (32, 32, 3))]
)
def test_one_that_wants_other_channels_or_another_size(five: Any, tmp_path: Path, told: Any, images: Any) -> None:
    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = five.net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x.view(-1, 3, 32, 32))

    torch.jit.trace(Fixed().eval(), torch.zeros(1, 3, 32, 32)).save(str(tmp_path / "mine.pt"))
    model = load_classifier(five.described(tmp_path / "mine.pt", **told))
    with pytest.raises(UserError) as refused:
        model.net.check(images, steers=False)
    said = str(refused.value)
    assert (
        "cannot take images of" in said and "RuntimeError: shape" in said and "mine.toml" in said and "\n" not in said
    )


def test_a_trace_of_a_network_in_training_mode(five: Any, tmp_path: Path) -> None:
    own = copy.deepcopy(five.net)  # a trace in training mode moves the statistics of batch norm
    net = torch.nn.Sequential(own, torch.nn.Dropout(0.5)).train()
    torch.jit.trace(net, torch.zeros(2, 3, 32, 32), check_trace=False).save(str(tmp_path / "mine.pt"))
    model = load_classifier(five.described(tmp_path / "mine.pt"))
    with pytest.raises(UserError, match="training mode"):
        model.net.check((32, 32, 3), steers=False)


def test_it_has_no_features(five: Any, tmp_path: Path) -> None:
    model = load_classifier(five.described(five.trace(tmp_path / "mine.pt")))
    with pytest.raises(UserError, match="no timm model.*--features"):
        judge_features(model, torch.device("cpu"))
