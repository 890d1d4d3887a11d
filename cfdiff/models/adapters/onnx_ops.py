"""ONNX operators as torch operations: those that classifiers of images are made of.

The semantics are those of https://onnx.ai/onnx/operators; where they changed over the versions (axes as an attribute,
later as an input), both are read. `OPS[name](node, *inputs)` gives the output, or a tuple of them; a missing optional
input is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Node:
    """One operation of a graph: the names of what it reads and makes, its attributes as plain values or tensors."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def axes(self, given: Tensor | None, name: str = "axes") -> list[int] | None:
        """Numbers that are an input in newer versions and an attribute in older ones; None where there are none."""
        if given is not None:
            return ints(given)
        found = self.get(name)
        return None if found is None else list(found)


Operator = Callable[..., Any]
OPS: dict[str, Operator] = {}


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Enter a function under these names of operators."""

    def enter(f: Operator) -> Operator:
        OPS.update(dict.fromkeys(names, f))
        return f

    return enter


def ints(tensor: Tensor) -> list[int]:
    """A tensor of indices or sizes as numbers."""
    return [int(value) for value in tensor.flatten().tolist()]


# Element by element; inputs are broadcast as torch does it.
for _name, _f in {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Erf": torch.erf,
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Log": torch.log,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Not": torch.logical_not,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "HardSwish": F.hardswish,
    "Mish": F.mish,
    "Identity": lambda x: x,
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "Equal": torch.eq,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Where": torch.where,
    "MatMul": torch.matmul,
}.items():
    OPS[_name] = lambda node, *inputs, f=_f: f(*inputs)


@operator("Div")
def _div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Mod")
def _mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod") else torch.remainder(a, b)


@operator("Sum", "Mean", "Max", "Min")
def _variadic(node: Node, *inputs: Tensor) -> Tensor:
    if node.op in ("Sum", "Mean"):
        return sum(inputs[1:], inputs[0]) / (len(inputs) if node.op == "Mean" else 1)
    found = inputs[0]
    for other in inputs[1:]:
        found = (torch.maximum if node.op == "Max" else torch.minimum)(found, other)
    return found


@operator("Dropout")
def _dropout(node: Node, x: Tensor, *rest: Any) -> Tensor:
    return x


@operator("LeakyRelu")
def _leaky(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@operator("Elu")
def _elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.get("alpha", 1.0))


@operator("Selu")
def _selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.6732632423543772), node.get("gamma", 1.0507009873554805)
    return gamma * F.elu(x, alpha)


@operator("PRelu")
def _prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


@operator("HardSigmoid")
def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return (node.get("alpha", 0.2) * x + node.get("beta", 0.5)).clamp(0, 1)


@operator("Gelu")
def _gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.get("approximate", "none"))


@operator("Clip")
def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = node.get("min") if low is None else float(low)
    most = node.get("max") if high is None else float(high)
    return x if least is None and most is None else x.clamp(least, most)


@operator("Softmax", "LogSoftmax")
def _softmax(node: Node, x: Tensor) -> Tensor:
    f = F.softmax if node.op == "Softmax" else F.log_softmax
    if node.opset >= 13:
        return f(x, dim=node.get("axis", -1))
    return f(x.flatten(node.get("axis", 1)), dim=-1).view(x.shape)  # all that follows the axis is one


@operator("Gemm")
def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if node.get("transA") else a
    b = b.T if node.get("transB") else b
    product = node.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + node.get("beta", 1.0) * c


@operator("Einsum")
def _einsum(node: Node, *inputs: Tensor) -> Tensor:
    return torch.einsum(node.get("equation"), *inputs)


def _padded(node: Node, x: Tensor, kernel: Sequence[int], dilations: Sequence[int], value: float) -> Tensor:
    """x with the padding of a convolution or a pool around it."""
    n, kind = len(kernel), node.get("auto_pad", "NOTSET")
    strides = node.get("strides", [1] * n)
    if kind in ("NOTSET", "VALID"):
        pads = node.get("pads", [0] * 2 * n) if kind == "NOTSET" else [0] * 2 * n
    else:
        pads = [0] * 2 * n
        for i, side in enumerate(x.shape[2:]):
            reach = (kernel[i] - 1) * dilations[i] + 1
            total = max(0, (math.ceil(side / strides[i]) - 1) * strides[i] + reach - side)
            less, more = total // 2, total - total // 2
            pads[i], pads[n + i] = (less, more) if kind == "SAME_UPPER" else (more, less)
    if not any(pads):
        return x
    return F.pad(x, [p for i in reversed(range(n)) for p in (pads[i], pads[n + i])], value=value)


@operator("Conv")
def _conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    n = weight.ndim - 2
    dilations = node.get("dilations", [1] * n)
    x = _padded(node, x, weight.shape[2:], dilations, 0.0)
    f: Any = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    return f(x, weight, bias, node.get("strides", [1] * n), 0, dilations, node.get("group", 1))


@operator("MaxPool")
def _max_pool(node: Node, x: Tensor) -> Tensor:
    kernel = node.get("kernel_shape")
    dilations = node.get("dilations", [1] * len(kernel))
    x = _padded(node, x, kernel, dilations, -math.inf)
    f: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    strides = node.get("strides", [1] * len(kernel))
    return f(x, kernel, strides, 0, dilations, ceil_mode=bool(node.get("ceil_mode")))


@operator("AveragePool")
def _average_pool(node: Node, x: Tensor) -> Tensor:
    kernel = node.get("kernel_shape")
    f: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    options = (kernel, node.get("strides", [1] * len(kernel)), 0, bool(node.get("ceil_mode")))
    ones = [1] * len(kernel)
    mean = f(_padded(node, x, kernel, ones, 0.0), *options)
    if node.get("count_include_pad"):
        return mean
    return mean / f(_padded(node, torch.ones_like(x[:1, :1]), kernel, ones, 0.0), *options)


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: Node, x: Tensor) -> Tensor:
    dims = tuple(range(2, x.ndim))
    return x.mean(dims, keepdim=True) if node.op == "GlobalAveragePool" else x.amax(dims, keepdim=True)


@operator("BatchNormalization")
def _batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def _instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator("LayerNormalization")
def _layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = x.shape[node.get("axis", -1) :]
    return F.layer_norm(
        x, shape, scale.expand(shape), None if bias is None else bias.expand(shape), node.get("epsilon", 1e-5)
    )


@operator("LRN")
def _lrn(node: Node, x: Tensor) -> Tensor:
    return F.local_response_norm(
        x, node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    )


@operator("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2")
def _reduce(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    axes = node.axes(given)
    if not axes and node.get("noop_with_empty_axes"):
        return x
    dims, keep = tuple(axes or range(x.ndim)), bool(node.get("keepdims", 1))
    f: Any = {
        "ReduceMean": torch.mean,
        "ReduceSum": torch.sum,
        "ReduceMax": torch.amax,
        "ReduceMin": torch.amin,
        "ReduceL2": torch.linalg.vector_norm,
    }[node.op]
    return f(x, dim=dims, keepdim=keep)


@operator("Flatten")
def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Reshape")
def _reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    sides = ints(shape)
    if not node.get("allowzero"):
        sides = [x.shape[i] if side == 0 else side for i, side in enumerate(sides)]
    return x.reshape(tuple(sides))


@operator("Transpose")
def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm", list(reversed(range(x.ndim)))))


@operator("Squeeze")
def _squeeze(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    axes = node.axes(given)
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


@operator("Unsqueeze")
def _unsqueeze(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    axes = node.axes(given) or []
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def _concat(node: Node, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, node.get("axis"))


@operator("Split")
def _split(node: Node, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, ...]:
    axis, parts = node.get("axis", 0), node.axes(given, "split")
    if parts is None:
        each = math.ceil(x.shape[axis] / len(node.outputs))
        return x.split(each, axis)
    return x.split(parts, axis)


@operator("Slice")
def _slice(node: Node, x: Tensor, *given: Tensor | None) -> Tensor:
    starts, ends, axes, steps = (
        node.axes(given[i] if i < len(given) else None, name)
        for i, name in enumerate(("starts", "ends", "axes", "steps"))
    )
    assert starts is not None and ends is not None
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = (i if axes is None else axes[i]), (1 if steps is None else steps[i])
        rows = torch.arange(x.shape[axis], device=x.device)[slice(start, end, step) if step > 0 else slice(None)]
        if step < 0:  # torch has no slices backwards
            rows = torch.tensor(list(range(x.shape[axis]))[start:end:step], dtype=torch.int64, device=x.device)
        x = x.index_select(axis, rows)
    return x


@operator("Gather")
def _gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    rows = indices.to(x.device).flatten().long() % x.shape[axis]
    found = x.index_select(axis, rows)
    return found.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@operator("Shape")
def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[node.get("start", 0) : node.get("end")], dtype=torch.int64)


@operator("Constant")
def _constant(node: Node) -> Tensor:
    value = next(iter(node.attributes.values()))
    if isinstance(value, Tensor):
        return value
    is_float = isinstance(value, float) or (isinstance(value, list) and any(isinstance(v, float) for v in value))
    return torch.tensor(value, dtype=torch.float32 if is_float else torch.int64)


@operator("ConstantOfShape")
def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = node.get("value")
    return torch.full(ints(shape), 0.0) if value is None else value.reshape(()).expand(ints(shape)).clone()


@operator("Expand")
def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(ints(shape))))


@operator("Tile")
def _tile(node: Node, x: Tensor, times: Tensor) -> Tensor:
    return x.repeat(ints(times))


@operator("Range")
def _range(node: Node, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


TYPES = {1: torch.float32, 10: torch.float32, 11: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}
"""Numbers of onnx.TensorProto; floats of any width are float32 here."""


@operator("Cast")
def _cast(node: Node, x: Tensor) -> Tensor:
    return x.to(TYPES[node.get("to")])


@operator("Pad")
def _pad(
    node: Node, x: Tensor, given: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    pads = node.axes(given, "pads") or []
    sides = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in ints(axes)]
    around = {axis: (pads[i], pads[len(sides) + i]) for i, axis in enumerate(sides)}
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[node.get("mode", "constant")]
    last = [axis for axis in range(x.ndim) if mode == "constant" or axis >= 2]  # torch pads no others so
    flat = [p for axis in reversed(last) for p in around.get(axis, (0, 0))]
    fill = node.get("value", 0.0) if value is None else float(value)
    return F.pad(x, flat, mode, fill) if mode == "constant" else F.pad(x, flat, mode)
