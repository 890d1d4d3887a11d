from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cfdiff.engine import NoiseSchedule, NoiseSource
from cfdiff.engine.saliency import clean_saliency, contrast, joined, noisy_saliency, place, place_holding

SCHEDULE = NoiseSchedule.cosine(100)
TARGET = torch.tensor([1, 0])


def corner(x: Tensor, level: int = 0) -> Tensor:
    """log p of classes that differ in the pixels (0..2, 0..2) alone."""
    logit = x[:, :, :3, :3].flatten(1).sum(1)
    return torch.stack([-logit, logit], 1).log_softmax(1)


def images(n: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, 12, 10, generator=torch.Generator().manual_seed(0)) / 10


def test_saliency_is_where_the_classes_differ_and_its_highest_is_1() -> None:
    for found in (
        clean_saliency(corner, images(), TARGET),
        noisy_saliency(SCHEDULE, corner, images(), TARGET, [10, 40], NoiseSource(0, ["a", "b"])),
    ):
        assert found.shape == (2, 1, 12, 10) and found.amax((1, 2, 3)).tolist() == [1, 1]
        assert (found[:, :, :3, :3] > 0).all() and found.sum() == found[:, :, :3, :3].sum()


def test_an_image_to_which_no_class_is_nearer_has_no_place() -> None:
    flat = clean_saliency(lambda x: (x * 0).flatten(1)[:, :2], images(), TARGET)
    assert not flat.any() and not flat.isnan().any()


def own_mean(x: Tensor, level: int, told: Tensor) -> Tensor:
    """eps of classes that are points, -1 and 1 in the pixels (0..2, 0..2), 0 elsewhere."""
    ab = SCHEDULE.alpha_bar[level].float()
    mean = torch.zeros_like(x)
    mean[:, :, :3, :3] = (2.0 * told - 1).view(-1, 1, 1, 1)
    return (x - ab.sqrt() * mean) / (1 - ab).sqrt()


def test_a_denoiser_does_worse_told_the_other_class_where_the_classes_differ_alone() -> None:
    calls: list[list[int]] = []

    def denoise(x: Tensor, level: int, told: Tensor) -> Tensor:
        calls.append([level, *told.tolist()])
        return own_mean(x, level, told)

    x0 = torch.zeros(2, 3, 12, 10)
    x0[:, :, :3, :3] = torch.tensor([-1.0, 1.0]).view(-1, 1, 1, 1)  # each of the class that it is not to be
    found = contrast(SCHEDULE, denoise, x0, TARGET, [10, 40], NoiseSource(0, ["a", "b"]), draws=2, blur=1)
    assert found.shape == (2, 1, 12, 10) and found.amax((1, 2, 3)).tolist() == [1, 1]
    inside = torch.zeros(12, 10, dtype=torch.bool)
    inside[:3, :3] = True
    assert (found[:, 0, inside] > 0.9).all() and (found[:, 0, ~inside] < 1e-4).all()
    assert calls == [[level, *told] for level in (10, 10, 40, 40) for told in ([1, 0], [0, 1])]
    already = contrast(SCHEDULE, denoise, x0, 1 - TARGET, [10, 40], NoiseSource(0, ["a", "b"]), 1, blur=1)
    assert not already[:, 0, inside].any(), "where it is the class asked for, nothing is missing"


def test_the_contrast_of_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    x0 = torch.rand(2, 1, 8, 8)
    both = contrast(SCHEDULE, own_mean, x0, TARGET, [30], NoiseSource(3, ["a", "b"]), 1)
    alone = contrast(SCHEDULE, own_mean, x0[1:], TARGET[1:], [30], NoiseSource(3, ["b"]), 1)
    assert torch.allclose(both[1:], alone, atol=1e-6)


def test_a_class_that_makes_no_difference_to_a_denoiser_has_no_place() -> None:
    same = contrast(SCHEDULE, lambda x, level, told: x, images(), TARGET, [30], NoiseSource(0, ["a", "b"]), 1)
    assert not same.any() and not same.isnan().any()


def test_maps_are_joined_at_equal_weight_and_smoothed_without_a_dark_rim() -> None:
    one = torch.ones(1, 1, 9, 9)
    assert torch.allclose(joined([one, one]), one)
    spot = torch.zeros(1, 1, 9, 9)
    spot[..., 4, 4] = 1
    assert (joined([spot], blur=3) > 0).sum() == 9


@given(st.floats(0.01, 1), st.sampled_from([1, 3, 5]))
def test_the_place_holds_the_share_asked_for_and_grows_with_both(share: float, grow: int) -> None:
    found = torch.rand(2, 1, 12, 10, generator=torch.Generator().manual_seed(1))
    bare, grown = place(found, share, 1), place(found, share, grow)
    assert ((bare == 0) | (bare == 1)).all() and (grown >= bare).all()
    least = int(share * 120)
    assert all(least <= n <= least + 2 for n in bare.sum((1, 2, 3)).tolist())
    assert (place(found, min(1.0, 2 * share), grow) >= grown).all()


@given(st.floats(0.01, 1), st.sampled_from([1, 3, 5]))
def test_the_place_that_holds_a_mass_is_the_smallest_that_does(mass: float, grow: int) -> None:
    found = torch.rand(2, 1, 12, 10, generator=torch.Generator().manual_seed(1)).double()
    bare = place_holding(found, mass, 1)
    for image, inside in zip(found, bare.bool(), strict=True):
        held = image[inside]
        assert held.sum() >= mass * image.sum() * (1 - 1e-9)
        assert held.sum() - held.min() < mass * image.sum()
        assert inside.all() or held.min() > image[~inside].max()
    assert (place_holding(found, mass, grow) >= bare).all()


def test_a_small_defect_has_a_small_place_and_a_large_one_a_large() -> None:
    small, large = torch.zeros(2, 1, 1, 12, 10)
    small[..., 3:5, 3:5], large[..., 1:9, 1:9] = 1, 1
    both = torch.cat([small, large]) + 1e-4
    assert place_holding(both, 0.6, 1).sum((1, 2, 3)).tolist() == [4, 64]
    assert place_holding(torch.zeros(1, 1, 12, 10), 0.3, 1).all()
