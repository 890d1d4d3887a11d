"""A control branch: nothing at first, and then what its lines say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cfdiff.models.control import Control, ControlConfig, Controlled, skip_widths
from cfdiff.models.unet import UNet, UNetConfig

SHAPES = [
    UNetConfig(size=(8, 8), width=8, mult=(1, 2), attention=(2,)),
    UNetConfig(channels=3, size=(8, 16), patch=1, width=8, mult=(1, 2, 3), blocks=2, attention=()),
]


def moved(net: nn.Module) -> nn.Module:
    g = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=g)
    return net.eval()


@pytest.mark.parametrize("shape", SHAPES, ids=["patches", "latents"])
def test_at_initialisation_it_changes_nothing_bit_for_bit_and_then_it_does(shape: UNetConfig) -> None:
    """Latents of half the size of the image, too: the control image is folded to where the network begins."""
    net = moved(UNet(shape))
    side = 2 if shape.patch == 1 else 1
    image = (side * shape.size[0], side * shape.size[1])
    branch = Control(ControlConfig(unet=shape, image=image, control="edges", of="0" * 64)).eval()
    branch.copy_of(net)
    both, (x, t) = Controlled(net, branch), (torch.randn(2, shape.channels, *shape.size), torch.tensor([0, 9]))
    plain = net(x, t)
    assert torch.equal(both(x, t), plain)
    both.hint = (torch.rand(2, 1, *image) > 0.5).float()
    assert torch.equal(both(x, t), plain)
    added = branch(x, t, both.hint)
    assert [part.shape[1] for part in added] == list(skip_widths(shape))
    both(x, t).square().sum().backward()
    learns = {
        name.split(".")[0] for name, p in branch.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
    }
    assert learns == {"zeros"}, "the zero convolutions learn first, and through them the copy"
    moved(branch)
    held = both(x, t)
    assert not torch.allclose(held, plain, atol=1e-4)
    both.hint = both.hint.flip(0)
    assert not torch.allclose(both(x, t), held, atol=1e-5), "each image by its own lines"
    both.hint = None
    assert torch.equal(both(x, t), plain)
