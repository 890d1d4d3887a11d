from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdiff.engine import NoiseSource, seed_of


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True), st.integers(0, 2**31), st.data())
def test_an_images_noise_does_not_depend_on_the_batch(ids: list[str], seed: int, data) -> None:
    order = data.draw(st.permutations(range(len(ids))))
    together, shuffled = NoiseSource(seed, ids), NoiseSource(seed, [ids[i] for i in order])
    alone = [NoiseSource(seed, [id]) for id in ids]
    x = torch.zeros(len(ids), 1, 3, 5)
    for _ in range(2):
        z = together.like(x)
        assert torch.equal(z[list(order)], shuffled.like(x))
        assert torch.equal(z, torch.cat([source.like(x[:1]) for source in alone]))


def test_seed_and_id_both_matter() -> None:
    assert len({seed_of(0, "a"), seed_of(1, "a"), seed_of(0, "b"), seed_of(1, "0a"), seed_of(10, "a")}) == 5


def test_the_seed_of_an_image_is_the_same_on_every_machine() -> None:
    assert seed_of(0, "a") == 0x2F8D50646D6CEE39  # sha256("0\0a"), first 63 bits


def test_successive_draws_differ_and_are_standard_normal() -> None:
    source = NoiseSource(3, ["a", "b"])
    x = torch.zeros(2, 1, 64, 64)
    z, z_next = source.like(x), source.like(x)
    assert not torch.equal(z, z_next)
    assert abs(z.mean()) < 0.05 and abs(z.std() - 1) < 0.05
    assert abs((z[0] * z[1]).mean()) < 0.05


def test_noise_has_the_dtype_of_its_image() -> None:
    assert NoiseSource(0, ["a"]).like(torch.zeros(1, 2, dtype=torch.float64)).dtype == torch.float64
