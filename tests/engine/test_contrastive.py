"""CLIP's loss against its closed forms, torch's cross entropy and transformers' own."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cfdiff.engine.contrastive import clip_loss


@pytest.mark.parametrize("n", [2, 5, 16])
@pytest.mark.parametrize("scale", [0.5, 3.0, 20.0])
def test_of_orthogonal_pairs_it_has_its_closed_form(n: int, scale: float) -> None:
    """<i_a, t_b> = [a = b], so every row is log(e^s + n - 1) - s."""
    unit = torch.eye(n, 24, dtype=torch.float64)
    assert float(clip_loss(unit, unit, scale)) == pytest.approx(math.log(math.exp(scale) + n - 1) - scale, rel=1e-12)


def test_of_pairs_that_are_all_alike_it_is_the_logarithm_of_their_number() -> None:
    one = F.normalize(torch.ones(7, 3, dtype=torch.float64), dim=1)
    assert float(clip_loss(one, one, 9.0)) == pytest.approx(math.log(7))


def test_it_is_transformers_own_loss_where_all_captions_differ() -> None:
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    g = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(9, 6, generator=g), dim=1) for _ in range(2))
    theirs = image_text_contrastive_loss(7.0 * texts @ images.T)
    torch.testing.assert_close(clip_loss(images, texts, 7.0), theirs)


def test_equal_captions_share_the_target_and_none_of_them_is_wrong() -> None:
    """Two captions, two images each, orthogonal: the best there is, log 2, whatever the scale."""
    unit = torch.eye(2, dtype=torch.float64)[[0, 0, 1, 1]]
    caption = torch.tensor([0, 0, 1, 1])
    found = clip_loss(unit, unit, 60.0, caption[:, None] == caption)
    assert float(found) == pytest.approx(math.log(2))
    assert float(clip_loss(unit, unit, 60.0, caption[:, None] != caption)) > 10


def test_it_is_symmetric_in_images_and_texts() -> None:
    g = torch.Generator().manual_seed(1)
    a, b = (F.normalize(torch.randn(6, 4, generator=g), dim=1) for _ in range(2))
    caption = torch.tensor([0, 1, 2, 2, 3, 1])
    same = caption[:, None] == caption
    torch.testing.assert_close(clip_loss(a, b, 4.0, same), clip_loss(b, a, 4.0, same))
