from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mil_toy import toy_bags, translated

from cfdiff.mil.batches import BagBatches, turned_by_place


def test_batches_are_a_function_of_seed_and_step_and_low_mixes_are_drawn_more_often() -> None:
    mixes = translated(toy_bags(6, 0), 0)
    real = toy_bags(6, 0).series

    def batches(low: float) -> BagBatches:
        return BagBatches(real, mixes.series, size=4, versions=3, low=low, balance=True, seed=0)

    first, again = batches(4).read(7), batches(4).read(7)
    assert np.array_equal(first.rows, again.rows)
    assert all(bool((a == b).all()) for a, b in zip(first.bags, again.bags, strict=True))
    assert sum(int(one.classes[0]) for one in first.told[: first.real]) == 2
    assert all(len(one.classes) == 3 for one in first.told[first.real :])

    def share(low: float) -> float:
        drawn = [one.positives[1:] for step in range(40) for one in batches(low).read(step).told[4:]]
        return float(np.mean([np.isin(p.numpy(), (1, 2)).mean() for p in drawn]))

    assert share(8) > share(1) + 0.1


def test_accumulation_cuts_a_batch_and_loses_none_of_it() -> None:
    mixes, real = translated(toy_bags(6, 0), 0), toy_bags(6, 0).series
    told = {"size": 4, "versions": 3, "low": 2.0, "balance": True, "seed": 0}
    whole = BagBatches(real, mixes.series, **told).read(3)  # type: ignore[arg-type]
    halves = [BagBatches(real, mixes.series, accumulate=2, **told).read(3, part) for part in (0, 1)]  # type: ignore[arg-type]
    assert {int(r) for half in halves for r in half.rows} == {int(r) for r in whole.rows}
    assert [half.real for half in halves] == [2, 2]


@pytest.mark.parametrize("kind", ["flip", "dihedral"])
def test_what_stands_at_one_place_of_a_bag_is_turned_alike_and_other_places_for_themselves(kind: Any) -> None:
    """A sham that was its source byte for byte was turned otherwise in 7 of 8 steps: the losses compared turns."""
    real = toy_bags(6, 0)
    mixes = translated(real, 0, sham=0.3)  # every version shows other rows
    batches = BagBatches(real.series, mixes.series, size=4, versions=3, low=1, balance=True, seed=0)
    one = torch.randn(1, 1, 5, 5)
    kinds = set()
    for step in range(4):
        batch = batches.read(step)
        x = turned_by_place(one.expand(len(batch.rows), -1, -1, -1), batch, kind, 0, step)
        for bag in batch.bags:
            assert bag.unique().numel() == bag.numel() and torch.equal(x[bag], x[bag[:1]].expand(len(bag), *[-1] * 4))
        kinds |= {tuple(image.ravel().tolist()) for image in x}
    assert len(kinds) == (2 if kind == "flip" else 8)


def test_neither_passes_nor_processes_change_how_a_bag_is_turned() -> None:
    mixes, real = translated(toy_bags(6, 0), 0), toy_bags(6, 0).series
    told: dict[str, Any] = {"size": 4, "versions": 3, "low": 2.0, "balance": True, "seed": 0}
    contents = torch.randn(len(mixes.contents), 1, 4, 4)

    def bags(part: int, **cut: int) -> list[torch.Tensor]:
        batch = BagBatches(real, mixes.series, **told, **cut).read(3, part)
        x = turned_by_place(contents[torch.from_numpy(batch.rows)], batch, "dihedral", 0, 3)
        return [x[bag] for bag in batch.bags]

    whole, halves = bags(0), [bags(part, accumulate=2) for part in (0, 1)]
    for k in range(8):
        assert torch.equal(whole[k], halves[k % 2][k // 2])
    assert torch.equal(whole[1], bags(0, world=2, rank=1)[0])


def test_an_instance_is_embedded_once_for_all_versions_of_its_bag() -> None:
    mixes = translated(toy_bags(6, 0), 0)  # untouched instances are the same rows in every version
    batch = BagBatches(toy_bags(6, 0).series, mixes.series, size=2, versions=4, low=1, balance=False, seed=0).read(0)
    for bag in batch.bags[batch.real :]:
        rows = batch.rows[bag.numpy()]
        assert bag.unique().numel() == sum(len(np.unique(rows[:, place])) for place in range(rows.shape[1]))
