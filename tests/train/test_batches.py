from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.train.batches import Batches, Draws, Light, augment, draw_levels, drop_told


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """20 images 4x4, a quarter of them positive, each of one gray value."""
    path = tmp_path_factory.mktemp("batches") / "toy.npz"
    images = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8)
    np.savez(path, images=images, labels=np.array(["negative", "positive"])[(np.arange(20) % 4 == 0).astype(int)])
    return open_source(path)


def draws(n: int, seed: int = 0) -> Draws:
    return Draws(seed, n, slice(None))


def test_every_image_is_seen_once_an_epoch(source: Source) -> None:
    batches = Batches(source, 5, seed=0)
    epoch = np.concatenate([batches.indices(step) for step in range(4)])
    assert sorted(epoch) == list(range(20))
    assert list(np.concatenate([batches.indices(step) for step in range(4, 8)])) != list(epoch)


def test_a_batch_depends_on_seed_and_step_only(source: Source) -> None:
    forward, backward = Batches(source, 7, seed=1), Batches(source, 7, seed=1)
    ahead = [forward.indices(step).tolist() for step in range(9)]
    assert ahead == [backward.indices(step).tolist() for step in reversed(range(9))][::-1]
    assert ahead[0] != Batches(source, 7, seed=2).indices(0).tolist()


def test_balanced_batches_are_half_positive(source: Source) -> None:
    batches = Batches(source, 8, seed=0, balance=True)
    assert all(batches.read(step).labels.sum() == 4 for step in range(10))


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("world", [1, 2])
def test_processes_and_passes_share_a_batch_and_its_random_numbers(source: Source, accumulate: int, world: int) -> None:
    whole = Batches(source, 12, seed=0, balance=True).read(5)
    seen = torch.zeros(12, dtype=torch.int64)
    for part in range(accumulate):
        for rank in range(world):
            batch = Batches(source, 12, 0, balance=True, accumulate=accumulate, rank=rank, world=world).read(5, part)
            rows = torch.arange(12)[batch.draws.rows]
            seen[rows] += 1
            assert torch.equal(batch.images, whole.images[rows])
            assert torch.equal(batch.labels, whole.labels[rows])
            everything = Draws(0, 12, slice(None))
            mine = Draws(0, 12, batch.draws.rows)
            for draw in (lambda d: d.normal(2, 3), lambda d: d.stratified(), lambda d: d.integers(-2, 2, 2)):
                assert torch.equal(draw(mine), draw(everything)[rows])
    assert torch.equal(seen, torch.ones_like(seen))


def test_a_source_too_large_for_memory_is_read_batch_by_batch(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Batches(source, 6, seed=0).read(2).images
    monkeypatch.setattr("cfdiff.train.batches.CACHE_BYTES", 0)
    batches = Batches(source, 6, seed=0)
    assert batches.cache is None
    assert torch.equal(batches.read(2).images, kept)


def test_levels_are_spread_evenly_and_a_power_dwells_at_low_noise() -> None:
    levels = draw_levels(draws(100), 1000, power=1)
    assert sorted(((levels - 1) // 10).tolist()) == list(range(100))
    low = draw_levels(draws(100), 1000, power=2)
    assert int((low <= 250).sum()) in range(49, 52)
    assert int(levels.min()) >= 1 and int(low.max()) <= 1000


@given(st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_share_of_the_images_is_told_nothing_and_those_of_no_class_always(share: float, seed: int) -> None:
    labels = torch.tensor([0, 1, -1, 1]).repeat(250)
    told = drop_told(Draws(seed, 1000, slice(None)), labels, share)
    dropped = told < 0
    assert torch.equal(told[~dropped], labels[~dropped]) and bool(dropped[labels < 0].all())
    assert abs(float(dropped[labels >= 0].float().mean()) - share) < 0.08
    parts = [drop_told(Draws(seed, 1000, slice(k, None, 4)), labels[k::4], share) for k in range(4)]
    assert all(torch.equal(part, told[k::4]) for k, part in enumerate(parts)), "however the batch is cut"


def test_the_clean_share_of_levels_is_zero() -> None:
    assert draw_levels(draws(50), 10, 1, clean_share=1.0).eq(0).all()
    assert draw_levels(draws(50), 10, 1).ge(1).all()


def test_dihedral_takes_all_eight_symmetries_and_none_takes_the_image() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3) / 9
    x = image.expand(200, -1, -1, -1)
    assert torch.equal(augment(x, draws(200), "none"), x)
    assert len({tuple(a.flatten().tolist()) for a in augment(x, draws(200), "dihedral")}) == 8
    assert len({tuple(a.flatten().tolist()) for a in augment(x, draws(200), "flip")}) == 2
    assert augment(x[..., :2], draws(200), "dihedral").shape == (200, 1, 3, 2)


def test_a_shift_moves_by_whole_pixels_and_repeats_the_border() -> None:
    image = torch.arange(25.0).view(1, 1, 5, 5) / 25
    moved = augment(image.expand(300, -1, -1, -1), draws(300), "none", shift=1)
    index = torch.arange(5)
    wanted = {
        tuple(image[0, 0][(index + i).clamp(0, 4)][:, (index + j).clamp(0, 4)].flatten().tolist())
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    }
    assert {tuple(m.flatten().tolist()) for m in moved} == wanted


def test_brightness_leaves_black_black() -> None:
    x = torch.stack([torch.full((1, 2, 2), -1.0), torch.full((1, 2, 2), 0.0)])
    brighter = augment(x, draws(2), "none", light=Light(gain=0.3))
    assert torch.equal(brighter[0], x[0])
    assert not torch.equal(brighter[1], x[1]) and brighter.max() <= 1


values = st.floats(0, 0.9)


@given(values, values, values, st.integers(0, 9))
def test_another_light_keeps_black_and_the_order_of_values(gain: float, gamma: float, cast: float, seed: int) -> None:
    steps = torch.linspace(-1, 1, 9).expand(6, 3, 1, 9)
    light, told = Light(gain, gamma, cast), Draws(seed, 6, slice(None))
    lit = light.varied(steps, told)
    assert torch.allclose(lit[..., 0], torch.tensor(-1.0)), "black"
    assert bool((lit.diff(dim=-1) >= 0).all()) and bool((lit >= -1).all()) and bool((lit <= 1).all())
    gray = lit.std(dim=1).max() < 1e-6
    assert bool(gray) == (cast == 0) or 0 < cast < 1e-3
    if not light:
        assert torch.equal(lit, steps)
    parts = [light.varied(steps[k::2], Draws(seed, 6, slice(k, None, 2))) for k in (0, 1)]
    assert all(torch.allclose(part, lit[k::2], atol=1e-6) for k, part in enumerate(parts)), "however the batch is cut"


def test_exposure_goes_both_ways_and_a_gray_image_has_no_cast() -> None:
    middle = torch.zeros(400, 1, 1, 1)
    lit = Light(gamma=0.5).varied(middle, draws(400)).flatten() / 2 + 0.5
    darkest, brightest = (0.5 ** torch.tensor(k).exp() for k in (0.5, -0.5))
    assert darkest <= lit.min() < 0.35 and 0.62 < lit.max() <= brightest
    assert torch.equal(Light(cast=0.5).varied(middle, draws(400)), middle)


def test_what_is_read_ahead_is_what_is_asked_for_in_any_order(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are functions of (seed, step): threads, a jump back as a resumed run makes, and parts change nothing."""
    whole = Batches(source, 8, 3, accumulate=2)
    monkeypatch.setattr("cfdiff.train.batches.CACHE_BYTES", 0)
    ahead = Batches(source, 8, 3, accumulate=2)
    assert whole.cache is not None and ahead.cache is None
    for step, part in [(0, 0), (0, 1), (1, 0), (7, 1), (2, 0), (2, 1), (3, 0)]:
        a, b = whole.read(step, part), ahead.read(step, part)
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
