from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from cfdiff.data.open import open_source
from cfdiff.edit.recall import MOST, real_images, recognised
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, Model


class Bright(nn.Module):
    """Positive is what is brighter on average than half of the full range."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.scale * x.flatten(1).mean(1)
        return torch.stack([-mean, mean], 1)


MODELS = {"judge": Model(Bright().requires_grad_(False), Card("clean-classifier", {}, None, {}, {}), "0", "x")}


def source(toy: Any) -> Any:
    """The toy's images, of which a positive is white and a negative black, but for one of ten."""
    plain = open_source(toy.data)
    value = np.where((plain.labels == 1) ^ (np.arange(48) % 10 == 3), 255, 0).astype(np.uint8)
    return replace(plain, reader=lambda rows: np.broadcast_to(value[rows, None, None, None], (len(rows), 16, 16, 1)))


def test_each_real_image_is_asked_for_its_own_class_in_batches_of_any_size(toy: Any) -> None:
    whole = source(toy)
    for batch in (5, 100):
        hits, groups = recognised(MODELS, whole, batch)
        assert hits["judge"].tolist() == (np.arange(48) % 10 != 3).tolist()
        assert groups is not None and (groups == whole.groups).all()


def test_an_image_that_cannot_be_read_is_left_out_and_no_other(toy: Any) -> None:
    whole = source(toy)

    def read(rows: np.ndarray) -> np.ndarray:
        if 7 in rows:
            raise UserError("damaged.")
        return whole.reader(rows)

    hits, groups = recognised(MODELS, replace(whole, reader=read), 10)
    assert hits["judge"].tolist() == (np.delete(np.arange(48), 7) % 10 != 3).tolist()
    assert groups is not None and (groups == np.delete(whole.groups, 7)).all()


def test_the_images_are_of_the_class_at_most_so_many_spread_over_groups_and_seeded(toy: Any) -> None:
    whole = source(toy)
    many = whole.select(np.tile(np.arange(48), 40))
    many = replace(many, ids=np.array([f"{i}" for i in range(len(many))]))
    one, again, other = (real_images(many, {1}, seed) for seed in (0, 0, 1))
    assert one is not None and again is not None and other is not None
    assert len(one) == MOST and set(one.labels) == {1} and len(set(np.unique(one.groups, return_counts=True)[1])) == 1
    assert (one.ids == again.ids).all() and (one.ids != other.ids).any()
    both = real_images(whole, {0, 1}, 0)
    assert both is not None and len(both) == 48 and real_images(whole, {2}, 0) is None
