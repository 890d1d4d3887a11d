"""guided-diffusion's networks once more, as nothing but a state_dict and sums over it, to hold ours against.

`unet_state` and `encoder_state` write the tensors down by the documented layout; `unet` and `encoder` compute with
them, attention written out head by head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
SMALL: dict[str, Any] = {"channels": 3, "width": 32, "mult": (1, 2), "blocks": 1, "attention": (2,)}


class Writer:
    """Random tensors by name."""

    def __init__(self) -> None:
        self.g, self.state = torch.Generator().manual_seed(0), State()

    def conv(self, name: str, c_in: int, c_out: int, *kernel: int) -> None:
        fan = c_in * math.prod(kernel)
        self.state[f"{name}.weight"] = torch.randn(c_out, c_in, *kernel, generator=self.g) / fan**0.5
        self.state[f"{name}.bias"] = 0.1 * torch.randn(c_out, generator=self.g)

    def norm(self, name: str, c: int) -> None:
        self.state[f"{name}.weight"] = 1 + 0.1 * torch.randn(c, generator=self.g)
        self.state[f"{name}.bias"] = 0.1 * torch.randn(c, generator=self.g)

    def block(self, name: str, c_in: int, c_out: int, emb: int, scale_shift: bool) -> None:
        self.norm(f"{name}.in_layers.0", c_in)
        self.conv(f"{name}.in_layers.2", c_in, c_out, 3, 3)
        self.conv(f"{name}.emb_layers.1", emb, 2 * c_out if scale_shift else c_out)
        self.norm(f"{name}.out_layers.0", c_out)
        self.conv(f"{name}.out_layers.3", c_out, c_out, 3, 3)
        if c_in != c_out:
            self.conv(f"{name}.skip_connection", c_in, c_out, 1, 1)

    def attention(self, name: str, c: int) -> None:
        self.norm(f"{name}.norm", c)
        self.conv(f"{name}.qkv", c, 3 * c, 1)
        self.conv(f"{name}.proj_out", c, c, 1)

    def trunk(self, o: dict[str, Any], scale_shift: bool, updown: bool) -> tuple[list[int], int]:
        emb, c, n = 4 * o["width"], int(o["width"] * o["mult"][0]), 1
        self.conv("time_embed.0", o["width"], emb)
        self.conv("time_embed.2", emb, emb)
        self.conv("input_blocks.0.0", o["channels"], c, 3, 3)
        skips = [c]
        for level, m in enumerate(o["mult"]):
            for _ in range(o["blocks"]):
                self.block(f"input_blocks.{n}.0", c, int(o["width"] * m), emb, scale_shift)
                c = int(o["width"] * m)
                if 2**level in o["attention"]:
                    self.attention(f"input_blocks.{n}.1", c)
                skips.append(c)
                n += 1
            if level + 1 < len(o["mult"]):
                if updown:
                    self.block(f"input_blocks.{n}.0", c, c, emb, scale_shift)
                else:
                    self.conv(f"input_blocks.{n}.0.op", c, c, 3, 3)
                skips.append(c)
                n += 1
        self.block("middle_block.0", c, c, emb, scale_shift)
        self.attention("middle_block.1", c)
        self.block("middle_block.2", c, c, emb, scale_shift)
        return skips, c


def unet_state(
    *,
    scale_shift: bool = True,
    updown: bool = True,
    sigma: bool = False,
    labels: int = 0,
    **changes: Any,
) -> State:
    """The state_dict of a UNetModel."""
    o, w = {**SMALL, **changes}, Writer()
    skips, c = w.trunk(o, scale_shift, updown)
    if labels:
        w.state["label_emb.weight"] = torch.randn(labels, 4 * o["width"], generator=w.g)
    n = 0
    for level, m in reversed(list(enumerate(o["mult"]))):
        for i in range(o["blocks"] + 1):
            w.block(f"output_blocks.{n}.0", c + skips.pop(), int(o["width"] * m), 4 * o["width"], scale_shift)
            c, last = int(o["width"] * m), 1
            if 2**level in o["attention"]:
                w.attention(f"output_blocks.{n}.1", c)
                last = 2
            if level and i == o["blocks"]:
                if updown:
                    w.block(f"output_blocks.{n}.{last}", c, c, 4 * o["width"], scale_shift)
                else:
                    w.conv(f"output_blocks.{n}.{last}.conv", c, c, 3, 3)
            n += 1
    w.norm("out.0", c)
    w.conv("out.2", c, o["channels"] * (2 if sigma else 1), 3, 3)
    return w.state


def encoder_state(
    *, size: int = 8, labels: int = 2, pool: str = "attention", updown: bool = True, **changes: Any
) -> State:
    """The state_dict of an EncoderUNetModel."""
    o, w = {**SMALL, **changes}, Writer()
    skips, c = w.trunk(o, True, updown)
    side = size // 2 ** (len(o["mult"]) - 1)
    if pool in ("attention", "adaptive"):
        w.norm("out.0", c)
    if pool == "attention":
        w.state["out.2.positional_embedding"] = torch.randn(c, side**2 + 1, generator=w.g) / c**0.5
        w.conv("out.2.qkv_proj", c, 3 * c, 1)
        w.conv("out.2.c_proj", c, labels, 1)
    elif pool == "adaptive":
        w.conv("out.3", c, labels, 1, 1)
    else:
        w.conv("out.0", sum(skips) + c, 2048)
        if pool == "spatial_v2":
            w.norm("out.1", 2048)
        w.conv("out.2" if pool == "spatial" else "out.3", 2048, labels)
    return w.state


def norm(s: State, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 32, s[f"{name}.weight"], s[f"{name}.bias"])


def linear(s: State, name: str, x: Tensor) -> Tensor:
    return x @ s[f"{name}.weight"].T + s[f"{name}.bias"]


def conv(s: State, name: str, x: Tensor, **options: Any) -> Tensor:
    return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], **options)


def embedded(s: State, t: Tensor) -> Tensor:
    half = s["time_embed.0.weight"].shape[1] // 2
    angle = t.double()[:, None] * torch.tensor([10000 ** (-i / half) for i in range(half)], dtype=torch.float64)
    emb = torch.cat([angle.cos(), angle.sin()], 1).to(s["time_embed.0.weight"])
    return linear(s, "time_embed.2", F.silu(linear(s, "time_embed.0", emb)))


def block(s: State, name: str, x: Tensor, emb: Tensor, change: str = "") -> Tensor:
    def resized(y: Tensor) -> Tensor:
        if change == "down":
            return y.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
        return y.repeat_interleave(2, 2).repeat_interleave(2, 3) if change == "up" else y

    h = conv(s, f"{name}.in_layers.2", resized(F.silu(norm(s, f"{name}.in_layers.0", x))), padding=1)
    told = linear(s, f"{name}.emb_layers.1", F.silu(emb))[:, :, None, None]
    c = h.shape[1]
    if told.shape[1] == 2 * c:
        h = norm(s, f"{name}.out_layers.0", h) * (1 + told[:, :c]) + told[:, c:]
    else:
        h = norm(s, f"{name}.out_layers.0", h + told)
    h = conv(s, f"{name}.out_layers.3", F.silu(h), padding=1)
    x = resized(x)
    return h + (conv(s, f"{name}.skip_connection", x) if f"{name}.skip_connection.weight" in s else x)


def heads_of(qkv: Tensor, heads: int, new_order: bool) -> Tensor:
    """Attention of (B, 3C, N), a head at a time; a negative number of heads is their width."""
    c = qkv.shape[1] // 3
    heads = heads if heads > 0 else c // -heads
    width, out = c // heads, []
    for i in range(heads):
        if new_order:
            q, k, v = (qkv[:, part * c + i * width : part * c + (i + 1) * width] for part in range(3))
        else:
            q, k, v = (qkv[:, (3 * i + part) * width : (3 * i + part + 1) * width] for part in range(3))
        out.append(v @ (q.transpose(1, 2) @ k / width**0.5).softmax(-1).transpose(1, 2))
    return torch.cat(out, 1)


def attention(s: State, name: str, x: Tensor, heads: int, new_order: bool) -> Tensor:
    flat = x.flatten(2)
    qkv = F.conv1d(norm(s, f"{name}.norm", flat), s[f"{name}.qkv.weight"], s[f"{name}.qkv.bias"])
    h = F.conv1d(heads_of(qkv, heads, new_order), s[f"{name}.proj_out.weight"], s[f"{name}.proj_out.bias"])
    return (flat + h).view_as(x)


def layer(s: State, name: str, h: Tensor, emb: Tensor, heads: int, new_order: bool, change: str) -> Tensor:
    """Whatever stands under a name."""
    if f"{name}.in_layers.2.weight" in s:
        return block(s, name, h, emb, change)
    if f"{name}.qkv.weight" in s:
        return attention(s, name, h, heads, new_order)
    if f"{name}.op.weight" in s:
        return conv(s, f"{name}.op", h, padding=1, stride=2)
    if f"{name}.conv.weight" in s:
        return conv(s, f"{name}.conv", h.repeat_interleave(2, 2).repeat_interleave(2, 3), padding=1)
    return conv(s, name, h, padding=1)


def down(
    s: State, x: Tensor, emb: Tensor, heads: int, new_order: bool, blocks: int, updown: bool
) -> tuple[list[Tensor], Tensor]:
    """The outputs of the way down, and that of the middle."""
    hs: list[Tensor] = []
    h, n = x, 0
    while any(key.startswith(f"input_blocks.{n}.") for key in s):
        halves = updown and n > 0 and n % (blocks + 1) == 0
        for j in range(2):
            if any(key.startswith(f"input_blocks.{n}.{j}.") for key in s):
                h = layer(s, f"input_blocks.{n}.{j}", h, emb, heads, new_order, "down" if halves else "")
        hs.append(h)
        n += 1
    h = block(s, "middle_block.0", h, emb)
    h = attention(s, "middle_block.1", h, heads, new_order)
    return hs, block(s, "middle_block.2", h, emb)


def unet(
    s: State,
    x: Tensor,
    t: Tensor,
    y: Tensor | None = None,
    *,
    heads: int = 4,
    heads_up: int | None = None,
    new_order: bool = False,
    blocks: int = 1,
    updown: bool = True,
) -> Tensor:
    """A UNetModel's output for x (B, C, H, W), timesteps t (B,) and classes y (B,)."""
    emb = embedded(s, t)
    if y is not None:
        emb = emb + s["label_emb.weight"][y]
    hs, h = down(s, x, emb, heads, new_order, blocks, updown)
    n = 0
    while hs:
        h = torch.cat([h, hs.pop()], 1)
        for j in range(3):
            if any(key.startswith(f"output_blocks.{n}.{j}.") for key in s):
                h = layer(s, f"output_blocks.{n}.{j}", h, emb, heads_up or heads, new_order, "up" if j else "")
        n += 1
    return conv(s, "out.2", F.silu(norm(s, "out.0", h)), padding=1)


def encoder(
    s: State, x: Tensor, t: Tensor, *, pool: str = "attention", width: int = 16, blocks: int = 1, updown: bool = True
) -> Tensor:
    """An EncoderUNetModel's logits."""
    hs, h = down(s, x, embedded(s, t), -width, False, blocks, updown)
    if pool == "attention":
        h = F.silu(norm(s, "out.0", h)).flatten(2)
        h = torch.cat([h.mean(2, keepdim=True), h], 2) + s["out.2.positional_embedding"]
        qkv = F.conv1d(h, s["out.2.qkv_proj.weight"], s["out.2.qkv_proj.bias"])
        out = F.conv1d(heads_of(qkv, -width, True), s["out.2.c_proj.weight"], s["out.2.c_proj.bias"])
        return out[:, :, 0]
    if pool == "adaptive":
        return conv(s, "out.3", F.silu(norm(s, "out.0", h)).mean((2, 3), keepdim=True))[:, :, 0, 0]
    h = linear(s, "out.0", torch.cat([each.mean((2, 3)) for each in [*hs, h]], 1))
    if pool == "spatial":
        return linear(s, "out.2", h.relu())
    return linear(s, "out.3", F.silu(norm(s, "out.1", h)))
