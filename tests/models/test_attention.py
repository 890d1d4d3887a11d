"""Cross-attention against torch's own module, and that a new one changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cfdiff.errors import UserError
from cfdiff.models.attention import CrossAttention, attend, group_norm
from cfdiff.models.unet import UNet, UNetConfig

SHAPE = UNetConfig(size=(8, 8), width=8, mult=(1, 2), attention=(1, 2), head_width=4)


def moved(net: nn.Module) -> nn.Module:
    g = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=g)
    return net.eval()


def test_cross_attention_is_that_of_torch() -> None:
    own, (x, tokens) = moved(CrossAttention(16, 6, 4)), (torch.randn(3, 16, 4, 5), torch.randn(3, 7, 6))
    theirs = nn.MultiheadAttention(16, 4, kdim=6, vdim=6, batch_first=True)
    k, v = own.kv.weight.chunk(2)
    theirs.q_proj_weight.data, theirs.k_proj_weight.data, theirs.v_proj_weight.data = own.q.weight.data, k.data, v.data
    theirs.in_proj_bias.data = torch.cat([own.q.bias.data, own.kv.bias.data])
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = own.out.weight.data, own.out.bias.data
    positions, read = own.norm(x).flatten(2).transpose(1, 2), own.norm_tokens(tokens)
    want = theirs(positions, read, read, need_weights=False)[0].transpose(1, 2).view_as(x)
    torch.testing.assert_close(own(x, tokens) - x, want, atol=1e-6, rtol=1e-5)
    assert want.abs().max() > 0.01


def test_a_new_branch_changes_nothing_bit_for_bit_and_the_other_weights_begin_as_ever() -> None:
    torch.manual_seed(0)
    plain = UNet(SHAPE).eval()
    torch.manual_seed(0)
    reading = UNet(SHAPE.model_copy(update={"tokens": 6})).eval()
    old, new = plain.state_dict(), reading.state_dict()
    assert all(torch.equal(old[k], new[k]) for k in old) and {k.split(".")[0] for k in set(new) - set(old)} == {
        "readers"
    }
    moved(plain)
    reading.load_state_dict(plain.state_dict(), strict=False)
    x, t, tokens = torch.randn(2, 1, 8, 8), torch.tensor([0, 9]), torch.randn(2, 5, 6)
    assert torch.equal(reading(x, t, tokens=tokens), plain(x, t))
    moved(reading)
    assert not torch.allclose(reading(x, t, tokens=tokens), reading(x, t, tokens=tokens + 1))
    swapped = tokens[:, torch.randperm(5)]
    torch.testing.assert_close(reading(x, t, tokens=swapped), reading(x, t, tokens=tokens), atol=1e-5, rtol=1e-4)


def test_a_network_is_told_what_it_knows() -> None:
    x, t, tokens = torch.zeros(1, 1, 8, 8), torch.tensor([3]), torch.zeros(1, 2, 6)
    with pytest.raises(ValueError, match="reads no tokens"):
        UNet(SHAPE)(x, t, tokens=tokens)
    with pytest.raises(ValueError, match="must read tokens"):
        UNet(SHAPE.model_copy(update={"tokens": 6}))(x, t)
    with pytest.raises(UserError, match="--attention"):
        UNet(SHAPE.model_copy(update={"tokens": 6, "attention": ()}))


def test_norm_and_attention_are_float32_under_a_cpus_autocast() -> None:
    x = torch.randn(2, 8, 4, 4).bfloat16()
    q, k, v = torch.randn(3, 2, 1, 16, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        normed, read = group_norm(8)(x), attend(q, k, v)
    assert normed.dtype == read.dtype == torch.float32
    torch.testing.assert_close(normed, nn.GroupNorm(8, 8)(x.float()))
    share = (q.float() @ k.float().mT / 2).softmax(-1)
    torch.testing.assert_close(read, share @ v.float(), atol=1e-5, rtol=1e-4)
