from __future__ import annotations

import pytest
import torch

from cfdiff.errors import UserError
from cfdiff.models.unet import UNet, UNetConfig, sinusoid


@pytest.mark.parametrize(("channels", "size", "patch"), [(1, (16, 16), 2), (3, (8, 24), 1), (5, (16, 8), 4)])
def test_the_output_has_the_shape_of_the_input(channels: int, size: tuple[int, int], patch: int) -> None:
    net = UNet(UNetConfig(channels=channels, size=size, patch=patch, width=8, mult=(1, 2), attention=(2,)))
    x = torch.randn(2, channels, *size)
    assert net(x, torch.tensor([0, 7])).shape == x.shape


def test_a_new_network_predicts_zero() -> None:
    net = UNet(UNetConfig(size=(8, 8), width=8, mult=(1,)))
    assert net(torch.randn(1, 1, 8, 8), torch.tensor([3])).abs().max() == 0


def test_sizes_that_cannot_be_halved_are_refused_with_the_factor() -> None:
    with pytest.raises(UserError, match=r"divisible by 8, but the images are 18x16.*--mult"):
        UNet(UNetConfig(size=(18, 16)))


def test_any_width_finds_attention_heads() -> None:
    net = UNet(UNetConfig(size=(8, 8), width=20, mult=(1, 2), attention=(1, 2), head_width=12))
    assert net(torch.randn(1, 1, 8, 8), torch.tensor([0])).shape == (1, 1, 8, 8)


def test_each_image_is_treated_alone_and_the_level_matters() -> None:
    torch.manual_seed(0)
    net = UNet(UNetConfig(size=(8, 8), width=8, mult=(1, 2), attention=(2,))).eval()
    for p in net.parameters():  # past the zero-initialised outputs
        p.data += 0.05 * torch.randn_like(p)
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([0, 5, 9])
    together = net(x, t)
    torch.testing.assert_close(together[1:2], net(x[1:2], t[1:2]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[1:2], net(x[1:2], t[2:3]), atol=1e-4)


def test_timesteps_have_distinct_embeddings_of_any_width() -> None:
    e = sinusoid(torch.arange(1000), 7)
    assert e.shape == (1000, 7) and len(e.unique(dim=0)) == 1000
