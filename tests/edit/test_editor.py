from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cfdiff import registry
from cfdiff.data.values import mean_change, to_model
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.editor import Editor
from cfdiff.edit.ladder import Rung, ladder
from cfdiff.edit.strategy import Attempt
from cfdiff.edit.trim import changed_region
from cfdiff.engine import Early, Trajectory
from cfdiff.models.checkpoint import Card, Model

Images = Callable[..., np.ndarray]
Settings = Callable[..., Any]
SOLVERS = [{"solver": "ddim", "eta": 0.7}, *({"solver": name} for name in registry.SOLVERS)]
STOCHASTIC = [{"solver": "ddim", "eta": 1.0}, {"solver": "ddpm"}, {"inversion": "noise"}]


def names(n: int) -> list[str]:
    return [f"cell/{i}.png" for i in range(n)]


def target_probability(cast: Cast, images: np.ndarray, target: int) -> np.ndarray:
    assert cast.checker is not None
    return probabilities(cast.checker, to_model(images)).numpy()[:, target]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("inversion", ["ddim", "fixed-point", "noise"])
def test_anchored_with_scale_0_gives_the_source_byte_for_byte(
    exact_cast: Cast,
    exact_images: Images,
    edit_settings: Settings,
    inversion: str,
    solver: dict[str, Any],
    clip: bool,
    dtype: str,
) -> None:
    images = exact_images(3, dtype=dtype)
    editor = Editor(exact_cast, edit_settings(scale=0, inversion=inversion, clip=clip, **solver))
    edits = editor.edit(images, names(3), 1)
    assert edits.counterfactual.tobytes() == images.tobytes()
    assert edits.guide_calls.tolist() == [0, 0, 0]
    assert editor.reconstruct(images, names(3))[0].tobytes() == images.tobytes()


def test_plain_decoding_without_guidance_shows_the_inversion_error_that_anchoring_removes(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images = exact_images(4)
    plain = Editor(exact_cast, edit_settings(scale=0, anchored=False, steps=3)).edit(images, names(4), 1)
    assert mean_change(images, plain.counterfactual).min() > 0


@pytest.mark.parametrize("guides", ["both", "noisy", "clean"])
@pytest.mark.parametrize("label", [0, 1])
def test_guidance_changes_the_image_towards_the_class_that_was_asked_for(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, guides: str, label: int
) -> None:
    images = exact_images(4, label)
    edits = Editor(exact_cast, edit_settings(guides=guides)).edit(images, names(4), 1 - label)
    before = target_probability(exact_cast, images, 1 - label)
    after = target_probability(exact_cast, edits.counterfactual, 1 - label)
    assert (after > before).all()
    # The patch gets brighter on the way to class 1 and darker on the way to class 0.
    moved = (edits.counterfactual.astype(int) - images)[:, 1:4, 1:4].mean(axis=(1, 2, 3))
    assert (moved > 2).all() if label == 0 else (moved < -2).all()


@pytest.mark.parametrize("options", [{}, *STOCHASTIC, {"solver": "dpm++"}, {"mask": "auto"}], ids=str)
def test_batches_of_1_7_and_32_agree(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, options: dict[str, Any]
) -> None:
    """At most one gray level in one pixel of a thousand may differ.

    Guidance is per sample, and so is the noise. What is left is that kernels sum in another order for another batch
    size: about 1e-7 in the networks, which can tip a value that lies on the edge between two gray levels.
    """
    images, ids = exact_images(32), names(32)
    editor = Editor(exact_cast, edit_settings(retries=2, **options))
    whole = editor.edit(images, ids, 1)
    for size in (1, 7):
        parts = [editor.edit(images[i : i + size], ids[i : i + size], 1) for i in range(0, 32, size)]
        split = np.concatenate([part.counterfactual for part in parts])
        off = np.abs(split.astype(int) - whole.counterfactual)
        assert off.max() <= 1 and (off > 0).mean() < 1e-3
        assert np.concatenate([part.retries for part in parts]).tolist() == whole.retries.tolist()
        assert np.concatenate([part.guide_calls for part in parts]).tolist() == whole.guide_calls.tolist()


@pytest.mark.parametrize("options", STOCHASTIC, ids=str)
def test_noise_belongs_to_seed_and_id_and_not_to_the_place_in_the_batch(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, options: dict[str, Any]
) -> None:
    images, ids = np.repeat(exact_images(1), 5, axis=0), names(5)
    settings = edit_settings(**options, anchored=False, closed_loop=False)
    editor = Editor(exact_cast, settings)
    result = editor.edit(images, ids, 1).counterfactual
    order = [3, 0, 4, 1, 2]
    shuffled = editor.edit(images, [ids[i] for i in order], 1).counterfactual
    assert np.abs(shuffled.astype(int) - result[order]).max() <= 1
    assert len(np.unique(result.reshape(5, -1), axis=0)) == 5, "equal images with other ids get other noise"
    other = Editor(exact_cast, settings.model_copy(update={"seed": 1})).edit(images, ids, 1).counterfactual
    assert (other != result).any(axis=(1, 2, 3)).all()


def test_network_and_guide_get_the_same_level_and_decode_walks_the_list_of_encode_down(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    editor = Editor(exact_cast, edit_settings(closed_loop=False, scale=1e-3))
    tau = editor.tau(0.4)
    editor.edit(exact_images(2), names(2), 1)
    levels = [t[0] + 1 for t in exact_cast.diffusion.net.asked]
    up, down = levels[: len(tau)], levels[len(tau) :]
    assert up == [1, *tau[1:]] and tau[-1] == 40
    assert down == tau[-2:0:-1], "the network is asked once at the top, by encode"
    assert exact_cast.guide is not None
    assert [level for level, *_ in exact_cast.guide.net.asked] == tau[:0:-1]


def test_clipping_is_for_decoding_only(exact_cast: Cast, exact_images: Images, edit_settings: Settings) -> None:
    x0 = to_model(exact_images(2))
    free, clipped = (Editor(exact_cast, edit_settings(clip=c)).encode(x0, names(2), 0.4) for c in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(free.x, clipped.x, strict=True))


def test_the_guide_is_off_at_levels_where_it_was_at_chance(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    assert exact_cast.guide is not None
    accuracy = {"0": 0.99, "10": 0.9, "20": 0.8, "60": 0.52}
    card = replace(exact_cast.guide.card, training={"validation": {"val_accuracy_by_level": accuracy}})
    cast = replace(exact_cast, guide=replace(exact_cast.guide, card=card))
    assert cast.guide_max_level == 20
    Editor(cast, edit_settings(guides="noisy", closed_loop=False)).edit(exact_images(2), names(2), 1)
    asked = [level for level, *_ in exact_cast.guide.net.asked]
    assert asked and max(asked) <= 20


def test_autocast_is_around_the_diffusion_network_only(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    seen = []

    class Watched(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return exact_cast.diffusion.net(x, t).bfloat16()

    cast = replace(exact_cast, diffusion=replace(exact_cast.diffusion, net=Watched()), precision="bf16")
    edits = Editor(cast, edit_settings()).edit(exact_images(2), names(2), 1)
    assert all(seen) and cast.denoise(torch.zeros(1, 1, 8, 8), 5).dtype == torch.float32
    assert exact_cast.guide is not None
    assert {(dtype, on) for _, _, dtype, on in exact_cast.guide.net.asked} == {(torch.float32, False)}
    assert np.isfinite(edits.ratio).all()


def test_the_closed_loop_leaves_an_image_alone_of_which_the_checker_is_sure(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    # float32, as the guides' small push on an image that is sure already may round away in 8 bits
    images = np.concatenate([exact_images(2, 1, dtype="float32"), exact_images(2, 0, dtype="float32")])
    closed = Editor(exact_cast, edit_settings(closed_loop=True, target=0.9)).edit(images, names(4), 1)
    assert closed.counterfactual[:2].tobytes() == images[:2].tobytes()
    assert closed.guide_calls[:2].tolist() == [0, 0] and (closed.guide_calls[2:] > 0).all()
    opened = Editor(exact_cast, edit_settings(closed_loop=False)).edit(images, names(4), 1)
    assert (opened.guide_calls == 6).all()
    assert (mean_change(images, opened.counterfactual)[:2] > 0).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_outside_the_masks_of_the_data_nothing_changes(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, dtype: str
) -> None:
    images = exact_images(3, dtype=dtype)
    masks = np.zeros((3, 8, 8), bool)
    masks[:, 1:3, 1:3] = True
    edits = Editor(exact_cast, edit_settings(mask="data")).edit(images, names(3), 1, masks)
    assert edits.counterfactual[~masks].tobytes() == images[~masks].tobytes()
    assert (edits.counterfactual[masks] != images[masks]).any()
    assert edits.mask is not None and (edits.mask == masks).all()


def test_the_automatic_mask_is_recorded_and_outside_of_it_nothing_changes(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images = exact_images(3)
    edits = Editor(exact_cast, edit_settings(mask="auto", mask_share=0.1)).edit(images, names(3), 1)
    assert edits.mask is not None and edits.mask.any(axis=(1, 2)).all() and not edits.mask.all(axis=(1, 2)).any()
    assert edits.counterfactual[~edits.mask].tobytes() == images[~edits.mask].tobytes()
    assert (edits.counterfactual[edits.mask] != images[edits.mask]).any()


def test_the_changed_region_is_where_the_change_is() -> None:
    change = torch.zeros(1, 3, 16, 16)
    change[:, :, 4:7, 9:12] = -0.5
    mask = changed_region(change, share=9 / 256)
    assert mask.shape == (1, 1, 16, 16)
    assert mask[0, 0, 4:7, 9:12].eq(1).all() and float(mask.min()) >= 0 and float(mask.max()) <= 1
    assert mask[0, 0, :1].eq(0).all() and mask[0, 0, :, :5].eq(0).all() and mask[0, 0, 11:].eq(0).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retries": 3},
        {"mask": "auto"},
        {"inversion": "fixed-point"},
        {"inversion": "noise"},
        {"exact": True},
        {"exact": True, "guides": "noisy"},
        {"solver": "dpm++", "retries": 4, "depth": 0.2},
    ],
    ids=str,
)
def test_the_calls_of_every_image_are_counted(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, options: dict[str, Any]
) -> None:
    edits = Editor(exact_cast, edit_settings(ratio=0.05, **options)).edit(exact_images(5), names(5), 1)
    rows = sum(len(t) for t in exact_cast.diffusion.net.asked)
    assert edits.network_calls.sum() == rows
    assert exact_cast.guide is not None
    assert edits.guide_calls.sum() == sum(n for _, n, *_ in exact_cast.guide.net.asked)


def test_the_ladder_grows_the_ratio_and_then_the_depth(edit_settings: Settings) -> None:
    rungs = [(r.ratio, r.depth) for r in ladder(edit_settings(ratio=0.2, depth=0.4, retries=4))]
    assert rungs == [
        (0.2, 0.4),
        (pytest.approx(0.3), 0.4),
        (pytest.approx(0.45), 0.4),
        (pytest.approx(0.3), pytest.approx(0.6)),
        (pytest.approx(0.45), 0.85),
    ]
    assert len(ladder(edit_settings(retries=0))) == 1


def test_without_a_clamp_the_ladder_raises_the_scale(edit_settings: Any) -> None:
    rungs = ladder(edit_settings(ratio=None, scale=2.0, retries=2))
    assert [(r.scale, r.ratio) for r in rungs] == [(2.0, None), (3.0, None), (3.0, None)]
    assert len(set(rungs)) == 3
    assert [r.depth for r in ladder(edit_settings(depth=1.0, retries=2))] == [1, 1, 1]
    assert [r.ratio for r in ladder(edit_settings(ratio=None, retries=1))] == [None, None]


class Brightness(nn.Module):
    """A checker for which p(positive) is the mean brightness in [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        p = ((x.flatten(1).mean(1) + 1) / 2).clamp(1e-6, 1 - 1e-6)
        return torch.stack([(1 - p).log(), p.log()], 1)


class Brightener(Editor):
    """An edit whose effect is known: each image becomes `effect` of its id and rung as bright, and tries are noted."""

    def __init__(self, cast: Cast, s: Any, effect: dict[str, list[float]]) -> None:
        super().__init__(replace(cast, checker=Model(Brightness(), Card("", {}, None, {}, {}), "", "")), s)
        self.effect = effect
        self.tries: list[list[str]] = []

    def decode(
        self,
        path: Trajectory,
        ids: Sequence[str],
        target: Tensor,
        rung: Rung,
        mask: Tensor | None = None,
        early: Early | None = None,
    ) -> Attempt:
        k = len(self.tries)
        self.tries.append(list(ids))
        x = torch.stack([torch.full_like(path.x[0][0], 2 * self.effect[i][k] - 1) for i in ids])
        return Attempt(x, torch.full((len(ids),), 2), torch.full((len(ids),), path.steps - 1))


def test_only_failures_climb_the_ladder_and_the_smallest_change_that_flips_is_kept(
    exact_cast: Cast, edit_settings: Settings
) -> None:
    effect = {
        "at once": [0.9, 1.0, 1.0],
        "second": [0.2, 0.85, 1.0],
        "flips early, sure late": [0.6, 0.7, 0.95],
        "flips, never sure": [0.55, 0.6, 0.7],
        "comes close": [0.1, 0.4, 0.3],
    }
    images, ids = np.zeros((5, 8, 8, 1), np.uint8), list(effect)
    settings = edit_settings(target=0.8, retries=2, depth=1.0, ratio=0.2, steps=4, realism=0)
    editor = Brightener(exact_cast, settings, effect)
    edits = editor.edit(images, ids, 1)
    assert editor.tries == [ids, ids[1:], ids[2:]]
    kept = edits.counterfactual[:, 0, 0, 0] / 255
    assert np.allclose(kept, [0.9, 0.85, 0.95, 0.55, 0.4], atol=0.003)
    assert edits.retries.tolist() == [0, 1, 2, 2, 2]
    assert np.allclose(edits.ratio, [0.2, 0.3, 0.45, 0.2, 0.3])
    # One encoding for all rungs (5 calls), then 3 a try: the first step down needs none.
    assert edits.network_calls.tolist() == [8, 11, 14, 14, 14]
    assert edits.guide_calls.tolist() == [2, 4, 6, 6, 6]
    assert edits.accepting is not None and np.allclose(edits.accepting[:, 1], kept, atol=1e-5), "of what is saved"


def test_a_deeper_rung_is_encoded_again_for_the_failures_only(exact_cast: Cast, edit_settings: Settings) -> None:
    effect = {"a": [0.9, 0.9, 0.9], "b": [0.1, 0.2, 0.9]}
    settings = edit_settings(target=0.8, retries=2, depth=0.4, steps=4, realism=0)
    editor = Brightener(exact_cast, settings, effect)
    edits = editor.edit(np.zeros((2, 8, 8, 1), np.uint8), ["a", "b"], 1)
    assert edits.network_calls.tolist() == [5 + 3, 5 + 3 + 3 + 5 + 3]
    assert np.allclose(edits.depth, [0.4, 0.6])


def test_without_a_checker_the_first_try_stands(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    settings = edit_settings(guides="noisy", closed_loop=False)
    edits = Editor(replace(exact_cast, checker=None), settings).edit(exact_images(2), names(2), 1)
    assert edits.accepting is None and edits.retries.tolist() == [0, 0]
    assert (mean_change(exact_images(2), edits.counterfactual) > 0).all()


def tried(editor: Editor, image: np.ndarray, tries: list[tuple[float, float]], monkeypatch: Any) -> tuple[Any, int]:
    """Edit `image` where try k makes the checker say p and changes the pixels without meaning by a; the rungs used.

    The checker's odds are exp(3.2 times the sum of the nine pixels of the patch).
    """
    used = []

    def decode(path: Any, ids: Any, goals: Tensor, rung: Any, mask: Any, early: Any) -> Attempt:
        p, a = tries[len(used)]
        used.append(rung)
        x = path.x[0].clone()
        x[:, :, 5:, 5:] += a
        x[:, :, 1:4, 1:4] = np.log(p / (1 - p)) / 3.2 / 9
        return Attempt(x, *torch.zeros(2, len(x), dtype=torch.int64))

    monkeypatch.setattr(editor, "decode", decode)
    return editor.edit(image, names(1), 1), len(used)


@pytest.mark.parametrize(
    ("tries", "kept", "used"),
    [
        ([(0.92, 0.5), (0.99, 0.0)], 0, 1),  # accepted at once: the ladder is for failures only
        ([(0.7, 0.2), (0.6, 0.0), (0.8, 0.4)], 1, 3),  # none is accepted: the smallest change that flips
        ([(0.7, 0.0), (0.92, 0.4), (0.99, 0.0)], 1, 2),  # accepted beats a smaller change that is in doubt
        ([(0.2, 0.0), (0.4, 0.3), (0.3, 0.0)], 1, 3),  # none flips: the one that came closest
        ([(0.4, 0.0), (0.6, 0.5), (0.3, 0.0)], 1, 3),  # a flip beats none, at any change
    ],
)
def test_the_ladder_keeps_the_smallest_change_that_flips(
    exact_cast: Cast,
    edit_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tries: list[tuple[float, float]],
    kept: int,
    used: int,
) -> None:
    image = np.full((1, 8, 8, 1), 0.5, np.float32)
    image[:, 1:4, 1:4] = 0.25
    edits, climbed = tried(Editor(exact_cast, edit_settings(retries=2)), image, tries, monkeypatch)
    assert climbed == used and edits.retries[0] == used - 1
    assert edits.accepting is not None and edits.accepting[0, 1] == pytest.approx(tries[kept][0], abs=1e-3)


def test_no_more_is_asked_of_the_saved_image_than_of_the_closed_loop(
    exact_cast: Cast, edit_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.full((1, 8, 8, 1), 0.25, np.float32)
    _, climbed = tried(Editor(exact_cast, edit_settings(retries=2, target=0.8)), image, [(0.85, 0.0)], monkeypatch)
    assert climbed == 1


class Overflows(nn.Module):
    """The exact diffusion model, but not a number for the sample whose first pixel is brightest; or only deep down."""

    def __init__(self, net: nn.Module, from_timestep: int = 0) -> None:
        super().__init__()
        self.net, self.config, self.from_timestep = net, net.config, from_timestep

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        broken = (x[:, 0, 0, 0] > 3) & (t >= self.from_timestep)
        return torch.where(broken.view(-1, 1, 1, 1), torch.nan, self.net(x, t))


def overflowing(cast: Cast, **where: int) -> Cast:
    return replace(cast, diffusion=replace(cast.diffusion, net=Overflows(cast.diffusion.net, **where)))


def with_a_bright_pixel(images: np.ndarray, row: int) -> np.ndarray:
    images = images.astype(np.float32)
    images[row, 0, 0] = 2.5  # 4 in [-1, 1] units: only so that the network can tell this sample
    return images


@pytest.mark.parametrize("checked", [True, False])
def test_an_edit_that_is_not_finite_is_quarantined_and_its_neighbours_are_not(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings, checked: bool
) -> None:
    cast = exact_cast if checked else replace(exact_cast, checker=None)
    s = edit_settings(retries=2, guides="both" if checked else "noisy", closed_loop=checked)
    images = with_a_bright_pixel(exact_images(3, dtype="float32"), 1)
    edits = Editor(overflowing(cast), s).edit(images, names(3), 1)
    assert edits.quarantined.tolist() == [False, True, False]
    assert (edits.counterfactual[1] == images[1]).all() and edits.retries[1] == 2
    alone = Editor(cast, s).edit(images[[0, 2]], [names(3)[0], names(3)[2]], 1)
    assert (edits.counterfactual[[0, 2]] == alone.counterfactual).all()
    if checked:
        assert edits.accepting is not None and np.isfinite(edits.accepting).all()


def test_a_finite_try_is_kept_though_a_later_one_is_not_finite(
    exact_cast: Cast, exact_images: Images, edit_settings: Settings
) -> None:
    images = with_a_bright_pixel(exact_images(1, dtype="float32"), 0)
    s = edit_settings(depth=0.3, ratio=0.01, retries=2)  # too weak to flip, so that it climbs to the deeper rung
    edits = Editor(overflowing(exact_cast, from_timestep=30), s).edit(images, names(1), 1)
    assert edits.retries.tolist() == [2] and edits.quarantined.tolist() == [False]
    assert (edits.counterfactual != images).any() and np.isfinite(edits.counterfactual).all()
