from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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


def small(classes: int, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet(UNetConfig(size=(8, 8), width=8, mult=(1, 2), attention=(2,), classes=classes)).eval()


def past_zero(net: UNet, seed: int = 0) -> UNet:
    """The network with every weight moved: a new one predicts zero whatever it is told."""
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=g)
    return net


def test_an_unconditional_network_has_the_weights_that_it_had_before_there_were_classes() -> None:
    """Old files fit, and the same seed begins with the same weights; classes add one tensor and change none."""
    plain, classed = small(0).state_dict(), small(2).state_dict()
    assert set(classed) - set(plain) == {"told.weight"} and classed["told.weight"].shape == (3, 32)
    assert not classed["told.weight"].any()
    assert all(torch.equal(plain[k], classed[k]) for k in plain)


@given(st.lists(st.integers(-2, 1), min_size=1, max_size=4), st.integers(0, 99))
def test_a_network_whose_classes_are_still_zero_gives_the_unconditional_output_bit_for_bit(
    told: list[int], seed: int
) -> None:
    plain = past_zero(small(0), seed)
    classed = small(2)
    classed.load_state_dict({**plain.state_dict(), "told.weight": classed.told.weight.data})
    g = torch.Generator().manual_seed(seed)
    x, t = torch.randn(len(told), 1, 8, 8, generator=g), torch.randint(0, 100, (len(told),), generator=g)
    assert torch.equal(classed(x, t, torch.tensor(told)), plain(x, t))


@given(st.lists(st.integers(-3, 1), min_size=2, max_size=5))
def test_each_image_is_told_its_own_class_and_every_negative_one_is_nothing(told: list[int]) -> None:
    net, n = past_zero(small(2)), len(told)
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(n, -1, -1, -1)
    t = torch.full((n,), 5)
    nothing = net(x, t)
    out = net(x, t, torch.tensor(told))
    by_class = {k: net(x, t, torch.full((n,), k)) for k in (0, 1)}
    assert not torch.allclose(by_class[0], by_class[1], atol=1e-4)
    for i, k in enumerate(told):
        torch.testing.assert_close(out[i], (nothing if k < 0 else by_class[k])[i], atol=1e-6, rtol=1e-5)


def test_an_unconditional_network_does_not_swallow_a_class() -> None:
    with pytest.raises(ValueError, match="no classes"):
        small(0)(torch.zeros(1, 1, 8, 8), torch.tensor([3]), torch.tensor([1]))
