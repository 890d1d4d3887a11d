from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper

from cfdiff.errors import UserError
from cfdiff.models.adapters import onnx as adapter
from cfdiff.models.adapters.onnx_graph import read_graph
from cfdiff.models.foreign import load_classifier

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporter has much to say of itself


@pytest.mark.parametrize("opset", [11, 17, None])
@pytest.mark.parametrize("steers", [True, False])
def test_a_graph_says_what_the_network_says(five: Any, tmp_path: Path, opset: int | None, steers: bool) -> None:
    options = {} if opset is None else {"opset_version": opset}
    model = load_classifier(five.described(five.onnx(tmp_path / "mine.onnx", **options)), steers=steers)
    assert five.agrees(model.net)
    model.net.check((32, 32, 3), steers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "kwargs"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64}),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 4}),
        ("convnext_atto", {}),
        ("efficientnet_b0", {}),
        ("mobilenetv3_small_050", {}),
        ("regnetx_002", {}),
        ("densenet121", {}),
        ("ghostnet_050", {}),
    ],
)
def test_other_architectures_have_their_values_and_gradients(arch: str, kwargs: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = timm.create_model(arch, num_classes=5, **kwargs).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.onnx.export(net, (x,), str(tmp_path / "m.onnx"), dynamo=False, verbose=False)
    graph = read_graph(onnx.load(str(tmp_path / "m.onnx")), "m.onnx")
    values, gradients = [], []
    for f in (net, graph):
        mine = x.clone().requires_grad_()
        out = f(mine)
        values.append(out.detach())
        gradients.append(torch.autograd.grad(out.sum(), mine)[0])
    assert torch.allclose(*values, rtol=1e-3, atol=1e-4 * float(values[0].abs().max()))
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm(), "kinks of ReLU may fall on either side"


def test_channels_and_size_are_read_off_a_graph_of_one_size(five: Any, tmp_path: Path) -> None:
    path = five.described(five.onnx(tmp_path / "mine.onnx"), channels=None, size=None)
    told = load_classifier(path).net.description
    assert told.channels == 3 and told.size == (32, 32)
    with pytest.raises(UserError, match=r"\(5 outputs\) nobody says classes, output and normalisation"):
        load_classifier(five.onnx(tmp_path / "bare.onnx"))


def test_a_graph_of_one_image_gets_one_and_a_graph_of_eight_is_refused(five: Any, tmp_path: Path) -> None:
    for steers in (True, False):
        model = load_classifier(five.described(five.onnx(tmp_path / "one.onnx", dynamic_axes={})), steers=steers)
        assert model.net.one_by_one and five.agrees(model.net)
    proto = onnx.load(str(tmp_path / "one.onnx"))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(proto, str(tmp_path / "eight.onnx"))
    with pytest.raises(UserError, match="takes 8 images at once"):
        load_classifier(five.described(tmp_path / "eight.onnx"))


def graph(nodes: list[Any], shape: list[Any], tensors: dict[str, np.ndarray], outputs: list[Any], path: Path) -> Path:
    """A file of an ONNX graph from x to y."""
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_an_operator_without_a_gradient_is_named_and_a_verifier_takes_it(five: Any, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["float"], to=1),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[0, 1], keepdims=0),
        helper.make_node("GlobalAveragePool", ["x"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Add", ["flat", "mean"], ["y"]),
    ]
    path = five.described(graph(nodes, ["n", 3, 32, 32], {}, ["n", 3], tmp_path / "mine.onnx"), classes="0,1")
    with pytest.raises(UserError, match="has the operator NonZero, of which cfdiff knows no gradient: name it"):
        load_classifier(path, steers=True)
    load_classifier(path, steers=False)


def test_a_reading_that_parts_from_onnxruntime_is_refused(five: Any, tmp_path: Path, monkeypatch: Any) -> None:
    path = five.described(five.onnx(tmp_path / "mine.onnx"))
    ops = __import__("cfdiff.models.adapters.onnx_ops", fromlist=["OPS"]).OPS
    monkeypatch.setitem(ops, "Relu", lambda node, x: x)
    model = load_classifier(path, steers=True)
    with pytest.raises(UserError, match="own reading of mine.onnx and onnxruntime part by"):
        model.net.check((32, 32, 3), steers=True)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([1, 32, 32, 3], "has its channels last"),
        ([1, 9, 32, 32], "takes images of 9 channels"),
        ([1, 32], "takes 1 inputs, of 2 dimensions"),
    ],
)
def test_a_graph_of_something_else_than_images(five: Any, tmp_path: Path, shape: list[int], said: str) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    path = five.described(graph(nodes, shape, {}, [1, None], tmp_path / "mine.onnx"))
    with pytest.raises(UserError, match=said):
        load_classifier(path)


def test_a_damaged_file(five: Any, tmp_path: Path) -> None:
    path = five.described(five.onnx(tmp_path / "mine.onnx"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"mine\.onnx is no readable ONNX file"):
        load_classifier(path)


def test_without_the_package_the_extra_is_named(five: Any, tmp_path: Path, monkeypatch: Any) -> None:
    path = five.described(five.onnx(tmp_path / "mine.onnx"))
    for package in ("onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=rf"needs the package {package}: pip install 'cfdiff\[onnx\]'"):
            load_classifier(path)


def test_weights_in_a_file_of_their_own_are_part_of_the_hash(five: Any, tmp_path: Path) -> None:
    proto = onnx.load(str(five.onnx(tmp_path / "whole.onnx")))
    onnx.save(proto, str(tmp_path / "mine.onnx"), save_as_external_data=True, location="mine.data", size_threshold=0)
    path = five.described(tmp_path / "mine.onnx")
    first = load_classifier(path)
    assert five.agrees(first.net)
    (tmp_path / "mine.data").write_bytes((tmp_path / "mine.data").read_bytes()[:-4] + b"\0\0\0\1")
    assert load_classifier(path).sha256 != first.sha256


@pytest.mark.parametrize(
    ("op", "tensors", "attributes", "shape"),
    [
        ("MaxPool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1]}, [1, 2, 8, 8]),
        ("MaxPool", {}, {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}, [1, 2, 7, 7]),
        ("AveragePool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [1, 2, 8, 8]),
        ("AveragePool", {}, {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "count_include_pad": 1}, [1, 2, 8, 8]),
        (
            "Conv",
            {"w": np.ones((4, 1, 3, 3), "f4")},
            {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]},
            [1, 2, 7, 7],
        ),
        ("Conv", {"w": np.ones((2, 2, 3, 3), "f4")}, {"dilations": [2, 2], "pads": [2, 2, 1, 1]}, [1, 2, 8, 8]),
        ("Pad", {"p": np.array([0, 0, 1, 2, 0, 0, 2, 1])}, {"mode": "reflect"}, [1, 2, 8, 8]),
        ("Pad", {"p": np.array([0, 1, 0, 0, 0, 0, 0, 0]), "v": np.float32(7)}, {}, [1, 2, 4, 4]),
        (
            "Slice",
            {"s": np.array([-1]), "e": np.array([-9]), "a": np.array([3]), "t": np.array([-2])},
            {},
            [1, 2, 8, 8],
        ),
        ("Gather", {"i": np.array([[0, -1], [1, 2]])}, {"axis": 3}, [1, 2, 4, 4]),
        ("Clip", {"l": np.float32(-0.2), "h": np.float32(0.5)}, {}, [1, 2, 4, 4]),
        ("LRN", {}, {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 2.0}, [1, 6, 4, 4]),
        ("HardSigmoid", {}, {"alpha": 0.3}, [1, 2, 4, 4]),
        ("PRelu", {"s": np.array([[[0.1]], [[0.5]]], "f4")}, {}, [1, 2, 4, 4]),
        ("Selu", {}, {}, [1, 2, 4, 4]),
        ("ReduceL2", {}, {"axes": [2, 3]}, [1, 2, 4, 4]),
        ("InstanceNormalization", {"s": np.ones(2, "f4") * 2, "b": np.ones(2, "f4")}, {}, [1, 2, 4, 4]),
        ("LayerNormalization", {"s": np.ones(4, "f4") * 2}, {"axis": 3}, [1, 2, 4, 4]),
        ("Softmax", {}, {"axis": 1}, [1, 2, 4, 4]),
        ("Tile", {"n": np.array([1, 2, 1, 3])}, {}, [1, 2, 4, 4]),
    ],
)
def test_each_operator_is_what_onnxruntime_makes_of_it(
    op: str, tensors: dict[str, Any], attributes: dict[str, Any], shape: list[int], tmp_path: Path
) -> None:
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    path = graph(
        [helper.make_node(op, ["x", *arrays], ["y"], **attributes)], shape, arrays, [None] * 4, tmp_path / "m.onnx"
    )
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mine = read_graph(onnx.load(str(path)), "m.onnx")(x)
    assert torch.allclose(mine, adapter.Session(path)(x), atol=1e-5)
