"""Images larger than the models: which tiles are edited, what becomes of the others, and that no seam is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact import HEIGHT, SIZE, STD, ExactChecker, model
from torch import Tensor

from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.data.values import to_model, unit
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.editor import Editor
from cfdiff.edit.kept import Edits
from cfdiff.edit.tiling import TiledEditor
from cfdiff.engine.tiles import Tiles
from cfdiff.errors import UserError
from cfdiff.evaluate.run import evaluate
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.registry import SOLVERS
from cfdiff.store import open_result
from cfdiff.store.bags import open_bags
from cfdiff.translate.run import translate

Settings = Callable[..., Any]
BIG, STEP = 20, 6
"""Side of the images: three tiles of 8 an axis, which begin at 0, 6 and 12."""
TILES = Tiles(SIZE, 0.25)


def large(n: int, positive: Sequence[tuple[int, int]] = (), dtype: str = "uint8") -> np.ndarray:
    """Images (n, 20, 20, 1) of tiles that are negative, but for those (row, column) which are positive."""
    x = -HEIGHT + 0.3 * STD * np.random.default_rng(0).normal(size=(n, BIG, BIG, 1))
    for row, column in positive:
        x[:, STEP * row + 1 : STEP * row + 4, STEP * column + 1 : STEP * column + 4] += 2 * HEIGHT
    values = ((x + 1) / 2).clip(0, 1)
    return values.astype(np.float32) if dtype == "float32" else np.rint(values * 255).astype(np.uint8)


def names(n: int) -> list[str]:
    return [f"i{k}" for k in range(n)]


def tiled(cast: Cast, s: Any, every: bool = False) -> TiledEditor:
    """An editor by tiles, whose models say of an image what they say of its tiles."""
    whole = {role: replace(getattr(cast, role), tiles=TILES) for role in ("checker", "verifier") if getattr(cast, role)}
    return TiledEditor(Editor(replace(cast, **whole), s), TILES, every)


class Fake(Editor):
    """An editor that does to every tile what it is told, and notes which images it got."""

    def does(self, change: Callable[[np.ndarray], np.ndarray], quarantined: bool = False) -> Fake:
        self.change, self.quarantined, self.got = change, quarantined, []
        return self

    def edit(self, images: np.ndarray, ids: Sequence[str], target: int, *places: np.ndarray | None) -> Edits:
        self.got += list(ids)
        edits = Edits.none(images, False, self.ways)
        edits.counterfactual = self.change(images).astype(images.dtype)
        edits.quarantined[:] = self.quarantined
        edits.network_calls += 5
        return edits


def fake(cast: Cast, s: Any, change: Callable[[np.ndarray], np.ndarray], **told: Any) -> TiledEditor:
    """Every tile of an image is edited by a fake, and nobody is asked."""
    nobody = replace(cast, checker=None, verifier=None)
    return TiledEditor(Fake(nobody, s).does(change, **told), TILES)


@pytest.mark.parametrize("size", [(20, 20), (9, 33), (21, 8), (40, 17)])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_an_edit_that_is_linear_in_the_image_is_what_it_is_without_tiles(
    exact_cast: Cast, edit_settings: Settings, size: tuple[int, int], dtype: str
) -> None:
    """No seam: where tiles overlap their changes go over into one another, and sum to the change of the whole."""
    values = np.random.default_rng(0).random((2, *size, 3))
    images = values.astype(np.float32) if dtype == "float32" else np.rint(255 * values).astype(np.uint8)
    top = 1.0 if dtype == "float32" else 255.0

    def linear(x: np.ndarray) -> np.ndarray:
        return 0.7 * x.astype(np.float64) + 0.2 * top

    edits = fake(exact_cast, edit_settings(), linear).edit(images, names(2), 1)
    assert np.abs(edits.counterfactual.astype(np.float64) - linear(images)).max() <= (1e-6 if top == 1 else 1)
    assert edits.mask is not None and edits.mask.all()
    assert (edits.network_calls == 5 * len(TILES.grid(*size))).all()


def test_a_change_of_one_tile_fades_into_what_is_not_edited(exact_cast: Cast, edit_settings: Settings) -> None:
    images, masks = np.full((1, BIG, BIG, 1), 100, np.uint8), np.zeros((1, BIG, BIG), bool)
    masks[0, 9:11, 9:11] = True  # the core of the middle tile, and of no other
    editor = fake(exact_cast, edit_settings(mask="data"), lambda x: x + 100)
    edits = editor.edit(images, names(1), 1, masks)
    assert editor.editor.got == ["i0/tile/6/6"], "the other tiles are not computed"
    change = edits.counterfactual[0, :, :, 0].astype(int) - 100
    assert change[9, 9] == 100 and change[6, 9] == pytest.approx(15, abs=1) and not change[:6].any()
    assert np.abs(np.diff(change[9])).max() < 75, "no step at the border of the tile"
    assert edits.mask is not None and edits.mask.sum() == SIZE**2


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("way", ["anchored", "regenerate"])
@pytest.mark.parametrize("target", [0, 1])
def test_no_guidance_is_no_change_bit_for_bit(
    exact_cast: Cast, edit_settings: Settings, way: str, target: int, dtype: str
) -> None:
    images = large(2, [(1, 1), (2, 2)] if target == 0 else [], dtype)
    s = edit_settings(scale=0, edit=way, redraw_steps=4, closed_loop=False)
    edits = tiled(exact_cast, s).edit(images, names(2), target)
    assert edits.counterfactual.tobytes() == images.tobytes()


def test_no_guidance_is_no_change_with_every_solver(exact_cast: Cast, edit_settings: Settings) -> None:
    images = large(1, [(1, 1)], "float32")
    for solver in SOLVERS:
        editor = tiled(exact_cast, edit_settings(scale=0, solver=solver, closed_loop=False))
        assert editor.edit(images, names(1), 0).counterfactual.tobytes() == images.tobytes(), solver
        back, finite = editor.reconstruct(images, names(1))
        assert back.tobytes() == images.tobytes() and finite.all(), solver


def test_to_negative_only_positive_tiles_are_computed_and_the_others_stay(
    exact_cast: Cast, edit_settings: Settings
) -> None:
    images = large(3, [(1, 1)])
    images[1] = large(1)[0]
    editor = tiled(exact_cast, edit_settings(depth=0.6, retries=4))
    edits = editor.edit(images, names(3), 0)
    steps = editor.s.steps
    assert edits.network_calls[1] == edits.guide_calls[1] == 0 and (edits.network_calls[[0, 2]] > steps).all()
    assert max(len(t) for t in exact_cast.diffusion.net.asked) == 2, "one tile of each of two images"
    assert edits.counterfactual[1].tobytes() == images[1].tobytes()
    outside = np.ones((BIG, BIG), bool)
    outside[STEP : STEP + SIZE, STEP : STEP + SIZE] = False
    for i in (0, 2):
        assert edits.counterfactual[i][outside].tobytes() == images[i][outside].tobytes()
        assert edits.mask is not None and not edits.mask[i][outside].any() and edits.mask[i].any()
    assert edits.accepting is not None and (edits.accepting[:, 0] >= 0.9).all(), "though the edit fades at its border"


def test_to_negative_all_positive_tiles_are_edited(exact_cast: Cast, edit_settings: Settings) -> None:
    images = large(1, [(0, 0), (2, 1), (2, 2)])
    edits = tiled(exact_cast, edit_settings(depth=0.6, retries=4)).edit(images, names(1), 0)
    assert edits.accepting is not None and edits.accepting[0, 0] >= 0.9
    changed = (edits.counterfactual != images)[0, :, :, 0]
    assert changed[1:4, 1:4].any() and changed[13:16, 7:10].any() and changed[13:16, 13:16].any()
    assert not changed[:6, 8:].any() and edits.quarantined.tolist() == [False]


def test_to_positive_one_tile_is_enough_and_it_is_the_nearest(exact_cast: Cast, edit_settings: Settings) -> None:
    images = large(2)
    images[:, 13:16, 7:10] += 25  # the tile (2, 1) is a little nearer to positive
    editor = tiled(exact_cast, edit_settings(depth=0.8, ratio=1.0, retries=4))
    edits = editor.edit(images, names(2), 1)
    assert edits.accepting is not None and (edits.accepting[:, 1] >= 0.9).all()
    outside = np.ones((BIG, BIG), bool)
    outside[12:20, 6:14] = False
    assert (edits.counterfactual[:, outside] == images[:, outside]).all()
    again = editor.edit(edits.counterfactual, names(2), 1)
    assert (again.network_calls == 0).all() and (again.counterfactual == edits.counterfactual).all()


def test_a_tile_that_does_not_convince_is_undone_and_the_next_is_tried(
    exact_cast: Cast, edit_settings: Settings
) -> None:
    class Not(ExactChecker):
        """A verifier to whom no tile is positive that has a pixel of full black in it."""

        def forward(self, x: Tensor) -> Tensor:
            black = (x.flatten(1).amin(1) <= -1).float()[:, None]
            return super().forward(x) + black * torch.tensor([[50.0, 0.0]])

    images = large(1)
    images[:, 13:16, 7:10] += 25
    images[:, 17, 11] = 0
    cast = replace(exact_cast, verifier=model(Not(), "clean-classifier"))
    edits = tiled(cast, edit_settings(depth=0.8, ratio=1.0, retries=4)).edit(images, names(1), 1)
    changed = (edits.counterfactual != images)[0, :, :, 0]
    assert edits.accepting is not None and edits.accepting[0, 1] >= 0.9
    assert not changed[14:, 8:12].any(), "the first tile's try is not in it"


def test_every_tile_is_edited_where_that_is_asked_for(exact_cast: Cast, edit_settings: Settings) -> None:
    images = large(1)
    edits = tiled(exact_cast, edit_settings(depth=0.8, ratio=1.0, retries=2), every=True).edit(images, names(1), 1)
    rows = range(0, BIG - SIZE + 1, STEP)
    changed = (edits.counterfactual != images)[0, :, :, 0]
    assert all(changed[top : top + SIZE, left : left + SIZE].any() for top in rows for left in rows)
    assert edits.mask is not None and edits.mask.all()


def test_without_a_closed_loop_an_image_is_edited_to_its_own_class(exact_cast: Cast, edit_settings: Settings) -> None:
    """As a sham must be, so as to look edited."""
    for target, images in ((0, large(1, dtype="float32")), (1, large(1, [(1, 1)], "float32"))):
        editor = tiled(exact_cast, edit_settings(closed_loop=False, retries=0, trim=0.0))
        edits = editor.edit(images, names(1), target)
        assert edits.network_calls[0] > 0 and (edits.counterfactual != images).any()


def test_outside_the_masks_of_the_data_nothing_changes_and_no_tile_is_computed(
    exact_cast: Cast, edit_settings: Settings
) -> None:
    images, masks = large(2, [(0, 0), (2, 2)]), np.zeros((2, BIG, BIG), bool)
    masks[0, 1:4, 1:4] = True
    edits = tiled(exact_cast, edit_settings(mask="data", depth=0.6)).edit(images, names(2), 0, masks)
    assert edits.network_calls[0] > 0 and edits.network_calls[1] == 0
    assert (edits.counterfactual[~masks] == images[~masks]).all() and (edits.counterfactual[masks] != 0).any()
    assert edits.mask is not None and not edits.mask[~masks].any()


def test_the_ground_of_an_object_is_that_of_the_whole_image(exact_cast: Cast, edit_settings: Settings) -> None:
    """In a tile that lies on the object what is plain is no ground."""
    images = np.zeros((1, BIG, BIG, 1), np.uint8)
    images[0, STEP:] = large(1)[0, STEP:]
    images[0, STEP + 1 : STEP + 7, 1:7] = 100  # the tile at (6, 0) shows little else
    edits = tiled(exact_cast, edit_settings(mask="object", depth=0.6), every=True).edit(images, names(1), 1)
    change = (edits.counterfactual != images)[0, :, :, 0]
    assert not change[:STEP].any() and change[STEP + 1 : STEP + 4, 1:4].any()
    assert edits.mask is not None and not edits.mask[0, :STEP].any() and edits.mask[0, STEP:].all()


@pytest.mark.parametrize("way", ["anchored", "regenerate", "auto"])
def test_an_image_of_one_tile_is_edited_as_without_tiles(
    exact_cast: Cast, exact_images: Callable[..., np.ndarray], edit_settings: Settings, way: str
) -> None:
    images, s = exact_images(3), edit_settings(edit=way, redraw_steps=5, retries=1)
    one, other = tiled(exact_cast, s).edit(images, names(3), 1), Editor(exact_cast, s).edit(images, names(3), 1)
    for name, value in vars(one).items():
        assert np.array_equal(value, getattr(other, name)), name


def test_a_map_of_where_the_class_stands_comes_with_every_batch(exact_cast: Cast, edit_settings: Settings) -> None:
    s = edit_settings(edit="regenerate", redraw_steps=5, redraw_depth=0.9)
    editor = tiled(exact_cast, s)
    nothing = editor.edit(large(1), names(1), 0)
    assert nothing.saliency is not None and not nothing.saliency.any()
    drawn = editor.edit(large(1, [(1, 1)]), names(1), 0)
    assert drawn.saliency is not None and 0.5 < drawn.saliency.max() <= 1 and not drawn.saliency[0, :5].any()
    assert set(drawn.edit) == {"regenerate"} and (drawn.counterfactual != large(1, [(1, 1)])).any()


def test_a_tile_that_is_not_finite_leaves_the_whole_image(exact_cast: Cast, edit_settings: Settings) -> None:
    images = large(1)
    edits = fake(exact_cast, edit_settings(), lambda x: x // 2, quarantined=True).edit(images, names(1), 1)
    assert edits.quarantined.tolist() == [True] and (edits.counterfactual == images).all()


def test_the_word_of_an_image_is_that_of_its_most_positive_tile(exact_cast: Cast) -> None:
    images = large(3, [(1, 2)])
    images[1] = large(1)[0]
    assert exact_cast.checker is not None
    x = to_model(images)
    found = probabilities(replace(exact_cast.checker, tiles=TILES), x).numpy()
    tops = range(0, BIG - SIZE + 1, STEP)
    each = np.stack(
        [probabilities(exact_cast.checker, x[:, :, t : t + SIZE, i : i + SIZE]).numpy() for t in tops for i in tops]
    )
    assert found[:, 1] == pytest.approx(each[:, :, 1].max(0)) and found.sum(1) == pytest.approx(np.ones(3))
    assert found[0, 1] > 0.5 > found[1, 1]


# On files, by the commands.


@pytest.fixture(scope="module")
def big(toys: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve toy images of 28 px, four tiles of 16 each."""
    return toys.write_npz(tmp_path_factory.mktemp("big") / "big.npz", 12, size=28)


@pytest.mark.parametrize("direction", [("healthy", 1), ("sick", 0)])
def test_translate_edits_by_tiles_and_evaluate_measures_by_tiles(
    toy: Any, big: Path, tmp_path: Path, direction: tuple[str, int]
) -> None:
    start, target = direction
    out = tmp_path / "run.h5"
    settings = toy.settings(out, data=str(big), from_=start, tile=16, limit=4, depth=0.7, ratio=1.0, factual=True)
    summary = translate(settings)
    with open_result(out) as r:
        assert r["source"].shape[1:3] == (28, 28) and r.settings["tile"] == 16
        mask, changed = r["mask"][:], (r.counterfactual[:] != r.source[:]).any(-1)
        assert changed.any() and not (changed & ~mask).any() and not mask.all()
        assert (r["factual"][:] == r.source[:]).all(), "anchored, so the factual is the image"
        assert r["prob/judge"].shape == (4, 2, 2)
        p = r.prob("checker")[:, :, target]
        assert p[:, 1].mean() > p[:, 0].mean(), "nearer to the class asked for"
    assert summary.images == 4
    found = evaluate(
        EvaluateSettings(
            run=out, data=str(big), weights=str(toy.weights), device="cpu", bootstrap=50, realism=False,
            faithfulness=False, round_trip=True,
        )
    )  # fmt: skip
    assert "flip_rate_judge" in found.sections["valid"].figures
    assert found.sections["returns"].figures


@pytest.mark.parametrize("edit", ["anchored", "regenerate"])
def test_latents_are_edited_by_tiles_and_no_guidance_is_no_change(
    toy_latent: Any, big: Path, tmp_path: Path, edit: str
) -> None:
    for scale, same in ((0.0, True), (20.0, False)):
        out = tmp_path / f"{scale}.h5"
        quick = {"tile": 16, "limit": 2, "edit": edit, "redraw_steps": 4, "redraws": 1, "depth": 0.7, "ratio": 1.0}
        translate(toy_latent.settings(out, data=str(big), scale=scale, **quick))
        with open_result(out) as r:
            assert bool((r.counterfactual[:] == r.source[:]).all()) == same
            assert np.isfinite(unit(r.counterfactual[:])).all()


def bags(toy: Any, big: Path, out: Path, **changes: Any) -> BagSettings:
    quick = {"steps": 4, "depth": 0.6, "ratio": 1.0, "retries": 0, "device": "cpu", "out": out, "tile": 16}
    return BagSettings(**{"data": str(big), "weights": str(toy.weights), **quick, **changes})


def test_a_bag_of_large_images_is_edited_by_tiles(toy: Any, big: Path, tmp_path: Path) -> None:
    out = tmp_path / "bags.h5"
    bag(bags(toy, big, out, mix="0.84", untouched="sham", on_fail="keep"))  # of two patients, with 3 of 6 each
    with open_bags(out) as found:
        edited, sham = found.read("row/edited"), found.read("row/sham")
        assert edited.sum() == 4 and sham.any()
        assert found.images("counterfactual", np.array([0])).shape[1:3] == (28, 28)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"mode": "joint"}, "leave out --tile"),
        ({"tile": None}, r"translate or bag them in tiles \(--tile 16\)"),
        ({"tile": 20}, r"cut into tiles, are 20x20 .* 16x16 .*: translate or bag them in tiles \(--tile 16\)"),
    ],
    ids=str,
)
def test_what_cannot_be_done_by_tiles_is_one_sentence(
    toy: Any, big: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        bag(bags(toy, big, tmp_path / "bags.h5", **changes))
    assert "\n" not in str(caught.value) and str(caught.value).count(". ") == 0


def test_the_features_of_a_judge_of_tiles_are_not_exported(toy: Any, big: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name a timm model with --features"):
        bag(bags(toy, big, tmp_path / "bags.h5", export=("npz", tmp_path / "features")))


def test_the_tiles_of_each_class_are_edited_by_its_own_settings(exact_cast: Cast, edit_settings: Settings) -> None:
    images = np.full((1, 20, 20, 1), 100, np.uint8)
    told = {"positive": {"ratio": 0.7, "smooth": [0.1]}}
    nobody = replace(exact_cast, checker=None, verifier=None)
    s = edit_settings(guides="noisy", closed_loop=False, retries=0, towards=told)
    edits = [TiledEditor(Editor(nobody, s), TILES).edit(images, ["a"], target) for target in (0, 1)]
    assert [float(e.ratio[0]) for e in edits] == pytest.approx([s.ratio, 0.7])
