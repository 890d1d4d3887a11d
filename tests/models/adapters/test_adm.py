"""The networks against sums written out by the documented layout (tests/adm_reference.py)."""

from __future__ import annotations

import adm_reference as reference
import pytest
import torch

from cfdiff.engine import NoiseSchedule
from cfdiff.errors import UserError
from cfdiff.models.adapters.adm import AdmEncoder, AdmUNet, EncoderConfig, UNetConfig
from cfdiff.models.adapters.adm_layout import read_layout
from cfdiff.models.adapters.adm_respace import respaced, used_timesteps

SHAPE = {"image": 8, "channels": 3, "width": 32, "blocks": 1, "mult": (1, 2), "attention": (2,)}


def image(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize("updown", [True, False])
@pytest.mark.parametrize("new_order", [True, False])
def test_the_unet_is_that_of_the_layout(scale_shift: bool, updown: bool, new_order: bool) -> None:
    state = reference.unet_state(scale_shift=scale_shift, updown=updown, sigma=True)
    how = {"scale_shift": scale_shift, "resblock_updown": updown, "new_attention_order": new_order}
    net = AdmUNet(UNetConfig(**SHAPE, **how, heads=4, learned_sigma=True)).eval()
    net.load_state_dict(state)
    x, t = image(), torch.tensor([0, 37, 999])
    with torch.no_grad():
        want = reference.unet(state, x, t, heads=4, new_order=new_order, updown=updown)
        torch.testing.assert_close(net(x, t), want, rtol=1e-5, atol=1e-5)
    assert want.shape == (3, 6, 8, 8)


def test_more_resolutions_blocks_and_half_multipliers() -> None:
    shape = {"width": 64, "mult": (0.5, 1, 2), "blocks": 2, "attention": (1, 4)}
    state = reference.unet_state(**shape)
    config = UNetConfig(**{**SHAPE, **shape}, head_width=16, scale_shift=True, resblock_updown=True)
    net = AdmUNet(config).eval()
    net.load_state_dict(state)
    x, t = image(), torch.tensor([3, 30, 300])
    with torch.no_grad():
        assert config.widths == [32, 64, 128] and config.heads_of(128) == 8
        layout = read_layout(state, "a")
        assert layout.blocks == 2 and layout.mult(2) == (0.5, 1, 2) and layout.attention(2) == (1, 4)
        torch.testing.assert_close(net(x, t), reference.unet(state, x, t, heads=-16, blocks=2), rtol=1e-5, atol=1e-5)


def test_heads_on_the_way_up_may_be_others() -> None:
    state = reference.unet_state()
    net = AdmUNet(UNetConfig(**SHAPE, heads=4, heads_up=2, scale_shift=True, resblock_updown=True)).eval()
    net.load_state_dict(state)
    x, t = image(), torch.tensor([1, 2, 3])
    with torch.no_grad():
        want = reference.unet(state, x, t, heads=4, heads_up=2)
        torch.testing.assert_close(net(x, t), want, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(want, reference.unet(state, x, t, heads=4), atol=1e-3)


def test_classes_and_timesteps_are_the_networks_own() -> None:
    state = reference.unet_state(labels=5)
    counted = {"timesteps": (0, 10, 40, 90), "timestep_scale": 10.0}
    told = {"labels": 5, "told": (4, 1), "nothing": 2}
    net = AdmUNet(UNetConfig(**SHAPE, heads=4, scale_shift=True, resblock_updown=True, **counted, **told)).eval()
    net.load_state_dict(state)
    x, t = image(), torch.tensor([0, 2, 3])
    with torch.no_grad():
        got = net(x, t, torch.tensor([0, 1, -1]))
        want = reference.unet(state, x, torch.tensor([0, 400, 900]), torch.tensor([4, 1, 2]))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", ["attention", "adaptive", "spatial", "spatial_v2"])
@pytest.mark.parametrize("updown", [True, False])
def test_the_encoder_is_that_of_the_layout_for_two_of_its_classes(pool: str, updown: bool) -> None:
    state = reference.encoder_state(pool=pool, labels=6, updown=updown)
    schedule = NoiseSchedule.linear(1000)
    config = EncoderConfig(
        **SHAPE,
        head_width=16,
        scale_shift=True,
        resblock_updown=updown,
        labels=6,
        told=(5, 2),
        pool=pool,
        schedule=schedule.config,
    )
    net = AdmEncoder(config).eval()
    net.load_state_dict(state)
    x, levels = image(4), torch.tensor([0, 1, 500, 1000])
    with torch.no_grad():
        want = reference.encoder(state, x, torch.tensor([0, 0, 499, 999]), pool=pool, updown=updown)[:, [5, 2]]
        torch.testing.assert_close(net(x, schedule.log_snr(levels)), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schedule", [NoiseSchedule.linear(1000), NoiseSchedule.cosine(4000)])
def test_a_log_snr_is_the_timestep_of_its_level_at_every_level(schedule: NoiseSchedule) -> None:
    shape = {**SHAPE, "labels": 2, "told": (0, 1), "head_width": 16}
    net = AdmEncoder(EncoderConfig(**shape, schedule=schedule.config)).float()
    levels = torch.arange(schedule.T + 1)
    for dtype in (torch.float64, torch.float32):
        assert net.timestep(schedule.log_snr(levels).to(dtype)).tolist() == levels.clamp(min=1).sub(1).tolist()


def test_respacing_takes_the_timesteps_that_are_written_down() -> None:
    assert used_timesteps(1000, "ddim25") == list(range(0, 1000, 40))
    assert used_timesteps(1000, "1000") == list(range(1000))
    assert used_timesteps(100, "5") == [0, 25, 50, 74, 99]  # round(49.5) and round(74.25): halves to even
    assert used_timesteps(30, "2,3,1") == [0, 9, 10, 14, 19, 20]
    assert used_timesteps(11, "2,1") == [0, 5, 6]
    for told, said in (
        ("ddim999", "no whole stride"),
        ("2000", "do not fit"),
        ("ddim", "not known"),
        ("a", "not known"),
    ):
        with pytest.raises(UserError, match=said):
            used_timesteps(1000, told)


def test_a_respaced_schedule_goes_through_the_same_alpha_bar() -> None:
    full, some = NoiseSchedule.cosine(1000), used_timesteps(1000, "ddim25")
    schedule = respaced(full, some)
    torch.testing.assert_close(schedule.alpha_bar[1:], full.alpha_bar[1:][some], rtol=1e-12, atol=0)
    assert schedule.T == 25
