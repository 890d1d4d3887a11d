"""What is around any foreign network: how images reach it, and what it is refused for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.models.description import complete
from cfdiff.models.ensemble import ensemble
from cfdiff.models.foreign import Foreign, load_classifier
from cfdiff.models.given import as_classifier

TOLD = {"classes": "0,1", "output": "logits", "normalisation": "unit", "channels": 1, "size": "images"}
SHAPE = (12, 10, 1)


class Means(nn.Module):
    """Logits that are affine in the means of the image's halves: what reaches it can be read off."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))[:, None] * self.weight + torch.arange(len(self.weight)) * 0.1


def foreign(core: Any = None, **told: Any) -> Foreign:
    description = complete("mine.pt", "mine.toml", TOLD | told)
    return Foreign(Means() if core is None else core, description, "mine.pt", "mine.toml", "test").eval()


def seen(shape: tuple[int, ...] = (2, 1, 12, 10), **told: Any) -> tuple[Tensor, Tensor]:
    """Images in [-1, 1], and what the network gets of them."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return x, foreign(lambda x: x, **told).prepare(x)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("unit", lambda u: u),
        ("symmetric", lambda u: 2 * u - 1),
        ("bytes", lambda u: 255 * u),
        ("0.3/0.2", lambda u: (u - 0.3) / 0.2),
    ],
)
def test_pixels_are_normalised_as_told(name: str, of: Any) -> None:
    x, given = seen(normalisation=name)
    assert torch.allclose(given, of((x + 1) / 2), atol=1e-4)


def test_imagenet_is_what_torchvision_does() -> None:
    from torchvision.transforms.functional import normalize

    x, given = seen((2, 3, 12, 10), normalisation="imagenet", channels=3)
    assert torch.allclose(given, normalize((x + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), atol=1e-6)


def test_gray_images_are_given_three_times_and_colour_is_not_made_gray() -> None:
    x, given = seen(channels=3)
    assert given.shape == (2, 3, 12, 10) and (given == (x + 1) / 2).all()
    assert foreign(channels=3).takes((12, 10, 1)) == (12, 10, 1)
    assert foreign(channels=1).takes((12, 10, 3)) == (12, 10, 1)


@pytest.mark.parametrize("size", [(24, 30), (6, 5)])
def test_images_are_resized_as_pillow_does_with_a_gradient(size: tuple[int, int]) -> None:
    from PIL import Image

    x, given = seen(size=list(size))
    image = Image.fromarray(((x[0, 0] + 1) / 2).numpy())
    expected = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
    assert np.abs(given[0, 0].numpy() - expected).max() < 1e-5
    x.requires_grad_()
    assert torch.autograd.grad(foreign(size=list(size))(x)[:, 1].sum(), x)[0].all()


def test_the_gradient_is_that_of_the_whole_chain() -> None:
    net = foreign(normalisation="0.3/0.2", size=[7, 9], channels=3).double()
    net.prepare = lambda x: Foreign.prepare(net, x).double()  # type: ignore[method-assign]
    x = torch.rand(1, 1, 12, 10) * 1.5 - 0.75
    x.requires_grad_()
    g = torch.autograd.grad(F.log_softmax(net(x), 1)[0, 1], x)[0][0, 0, 4, 4]
    step = torch.zeros_like(x)
    step[0, 0, 4, 4] = 0.2
    with torch.no_grad():
        slope = (F.log_softmax(net(x + step), 1) - F.log_softmax(net(x - step), 1))[0, 1] / 0.4
    assert torch.allclose(g.double(), slope.double(), rtol=1e-2)


def test_a_network_that_takes_one_image_at_a_time_gets_one() -> None:
    def single(x: Tensor) -> Tensor:
        return x.reshape(1, 1, 12, 10).mean((1, 2, 3)).reshape(1, 1) * torch.tensor([[1.0, -1.0]])

    net = foreign(single)
    net.check(SHAPE, steers=True)
    x = torch.rand(5, 1, 12, 10)
    assert net.one_by_one and torch.allclose(net(x)[:, 0], ((x + 1) / 2).mean((1, 2, 3)))


class Noisy(Means):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5, training=True) + torch.rand(1)


class Neighbours(Means):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.std()


class Wide(Means):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.conv2d(x, torch.ones(1, 1, 64, 64)))


@pytest.mark.parametrize(
    ("core", "told", "said"),
    [
        (Means(1), {}, "gives 1 number an image, so its output is not 'logits': write output as logit or probability"),
        (Means(3), {"output": "logit"}, "gives 3 numbers an image, so its output is not 'logit'"),
        (Means(3), {"classes": "0,3"}, "has the classes 0 to 2, and no 3"),
        (Means(1), {"output": "logit", "classes": "0,2"}, "has the classes 0 to 1, and no 2"),
        (Means(3), {"classes": "1"}, "of which classes needs two"),
        (Means(3), {"output": "probabilities"}, "which are no probabilities"),
        (lambda x: Means(3)(x).softmax(1), {}, 'write output = "probabilities"'),
        (lambda x: Means()(x) * torch.nan, {}, "not finite"),
        (lambda x: Means()(x) / 0, {}, "not finite"),
        (Noisy(), {}, "exported in training mode"),
        (Neighbours(), {}, "hangs on the others of the batch"),
        (Wide(), {}, "cannot take images of 12x10 pixels with 1 channels"),
        (lambda x: [Means()(x)], {}, "gives a list and no tensor"),
        (lambda x: x, {}, r"gives a tensor of shape (1, 1, 12, 10) for 1 image"),
        (lambda x: (9 * Means()(x)).round(), {}, "which a checker needs, is zero everywhere"),
        (lambda x: Means()(x.detach()), {}, "has no gradient, which a checker needs"),
    ],
)
def test_what_does_not_fit_its_description_is_said_in_one_sentence(core: Any, told: dict[str, Any], said: str) -> None:
    if isinstance(core, nn.Module):
        core.requires_grad_(False)
    with torch.no_grad(), pytest.raises(UserError) as refused:
        frozen = core if isinstance(core, nn.Module) else lambda x: core(x)
        foreign(frozen, **told).check(SHAPE, steers=True)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_verifier_needs_no_gradient() -> None:
    foreign(lambda x: Means()(x.detach()).detach()).check(SHAPE, steers=False)


def test_an_image_without_an_answer_is_an_error_and_an_estimate_is_none() -> None:
    def bounded(x: Tensor) -> Tensor:
        return torch.where(x.mean((1, 2, 3))[:, None] > 0.9, torch.nan, Means()(x))

    net = foreign(bounded)
    with pytest.raises(UserError, match="mine.pt gives numbers that are not finite"):
        net(torch.ones(1, 1, 4, 4))
    assert not net(5 * torch.ones(1, 1, 4, 4)).isfinite().all()


def test_an_ensemble_keeps_what_one_member_gives_to_other_classes() -> None:
    three = load_classifier(as_classifier(Means(3), **TOLD), "cpu")
    two = load_classifier(as_classifier(Means(2), **TOLD), "cpu")
    both = ensemble([three, two])
    assert both is not None
    x = torch.rand(4, 1, 6, 6)
    log_p = F.log_softmax(both.net(x), 1)
    each = [F.log_softmax(model.net(x), 1) for model in (three, two)]
    expected = torch.stack([(each[0][:, 0] + each[1][:, 0]) / 2, (each[0][:, 1] + each[1][:, 1]) / 2, each[0][:, 2]], 1)
    assert torch.allclose(log_p, F.log_softmax(expected, 1), atol=1e-6)
    assert both.takes((6, 6, 1)) == (6, 6, 1) and both.takes((6, 6, 3)) == (6, 6, 1)
