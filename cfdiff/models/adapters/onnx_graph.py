"""An ONNX graph that torch can differentiate, node by node.

onnx2torch, which does the same, is no longer kept: of five timm networks that torch 2.15 exported, at three versions of
the operators, its last release (1.5.15) read one at one version. This reads the operators of classifiers of images, and
what it makes of them is held against onnxruntime before a model is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.adapters.onnx_ops import OPS, Node


class Graph(nn.Module):
    """(B, C, H, W) -> the first output of a graph.

    `weights` are float tensors by name, `numbers` all others, which stay on the CPU as sizes and indices.
    """

    def __init__(
        self, nodes: list[Node], weights: dict[str, Tensor], numbers: dict[str, Tensor], given: str, result: str
    ) -> None:
        super().__init__()
        self.nodes, self.numbers, self.given, self.result = nodes, numbers, given, result
        self.names = list(weights)
        self.weights = nn.ParameterList([nn.Parameter(weight, requires_grad=False) for weight in weights.values()])
        last: dict[str, int] = {}
        for i, node in enumerate(nodes):
            last.update(dict.fromkeys(node.inputs, i))
        self.done = [[name for name in last if last[name] == i and name != result] for i in range(len(nodes))]

    def forward(self, x: Tensor) -> Tensor:
        known: dict[str, Any] = {"": None, self.given: x, **self.numbers}
        known.update(zip(self.names, self.weights, strict=True))
        for node, done in zip(self.nodes, self.done, strict=True):
            found = OPS[node.op](node, *(known[name] for name in node.inputs))
            known.update(zip(node.outputs, found if isinstance(found, tuple) else (found,), strict=False))
            for name in done:  # what nobody reads any more need not be held
                if name:
                    known.pop(name, None)
        result: Tensor = known[self.result]
        return result


def read_graph(proto: Any, name: str) -> Graph:
    """The graph of a loaded model.

    Raises:
        UserError: it has operators that are not known here.
    """
    import onnx
    from onnx import helper, inliner, numpy_helper

    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    opset = max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    unknown = sorted(
        {node.op_type for node in proto.graph.node if node.op_type not in OPS or node.domain not in ("", "ai.onnx")}
    )
    if unknown:
        raise UserError(
            f"{name} has the operator{'s' * (len(unknown) > 1)} {', '.join(unknown)}, of which cfdiff knows no "
            "gradient: name it as --verifier or --judge, or give a checker as TorchScript or a timm model."
        )

    def tensor(value: Any) -> Tensor:
        found = torch.from_numpy(numpy_helper.to_array(value).copy())
        return found.float() if found.is_floating_point() else found

    def plain(attribute: Any) -> Any:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            return tensor(value)
        if isinstance(value, bytes):
            return value.decode()
        return list(value) if not isinstance(value, int | float | str) else value

    nodes = [
        Node(node.op_type, tuple(node.input), tuple(node.output), {a.name: plain(a) for a in node.attribute}, opset)
        for node in proto.graph.node
    ]
    tensors = {value.name: tensor(value) for value in proto.graph.initializer}
    weights = {key: value for key, value in tensors.items() if value.is_floating_point() and value.ndim}
    numbers = {key: value for key, value in tensors.items() if key not in weights}
    given = next(entry.name for entry in proto.graph.input if entry.name not in tensors)
    return Graph(nodes, weights, numbers, given, proto.graph.output[0].name)
