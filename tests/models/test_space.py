"""What every space keeps, whatever it does to images: no edit is no change, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cfdiff.engine import NoiseSchedule, NoiseSource, decode, encode_ddim, make_tau
from cfdiff.models.space import PixelSpace, reduced, saved_by_difference
from cfdiff.registry import SOLVERS


class Blocks:
    """A lossy space of half the size: means of 2 x 2 blocks, as an autoencoder that cannot draw detail."""

    discrete = False

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        return channels, height // 2, width // 2

    def encode(self, x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, 2) * 1.3

    def decode(self, z: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(z / 1.3, scale_factor=2)

    def saved(self, x: Tensor, z: Tensor, edited: Tensor, drawn: Tensor | None = None) -> Tensor:
        return saved_by_difference(self, x, z, edited, drawn)

    def mask(self, mask: Tensor) -> Tensor:
        return reduced(mask, 2)


SPACES = {"pixel": PixelSpace(), "lossy": Blocks()}


@given(st.sampled_from(sorted(SPACES)), st.sampled_from(sorted(SOLVERS)), st.integers(1, 12), st.floats(0.05, 1))
def test_no_guidance_is_no_change_in_every_space_with_every_solver(
    name: str, solver: str, steps: int, depth: float
) -> None:
    space, schedule = SPACES[name], NoiseSchedule.cosine(100)
    x = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(steps)) * 2 - 1
    z = space.encode(x)
    assert z.shape[1:] == space.shape(*x.shape[1:])
    tau = make_tau(schedule, depth, min(steps, schedule.level_of(depth)))
    denoise = lambda z, level: torch.tanh(z + level / 50)  # noqa: E731
    path, noise = encode_ddim(schedule, denoise, z, tau), NoiseSource(0, ["a", "b"])
    edited = decode(schedule, denoise, path, solver=SOLVERS[solver](0.5), noise=noise)
    assert torch.equal(space.saved(x, z, edited), x)


def test_detail_that_the_space_cannot_draw_stays_and_the_edit_is_added() -> None:
    space = Blocks()
    x = torch.rand((1, 1, 8, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1
    z = space.encode(x)
    edited = z.clone()
    edited[0, 0, 1, 1] += 0.65
    change = space.saved(x, z, edited) - x
    assert change[0, 0, 2:4, 2:4].mean() == pytest.approx(0.5, abs=1e-6) and (change != 0).sum() == 4


def test_a_mask_of_the_space_is_open_where_any_pixel_is() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 0, 1] = 0.5
    assert Blocks().mask(mask)[0, 0].tolist() == [[0.5, 0], [0, 0]]
    assert torch.equal(PixelSpace().mask(mask), mask)
