"""The latent space: what every run in it keeps, where its autoencoder is found, and that nothing else knows of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cfdiff.cli.app import app
from cfdiff.data.values import to_model
from cfdiff.edit.editor import Editor
from cfdiff.edit.roles import load_cast
from cfdiff.engine import Ddim, NoiseSource, decode, encode_ddim, make_tau
from cfdiff.errors import UserError
from cfdiff.models.autoencoder import AutoencoderConfig, build_autoencoder
from cfdiff.models.checkpoint import load_model, save_model
from cfdiff.models.classifier import Classifier, ClassifierConfig
from cfdiff.models.ensemble import ensemble, log_prob_in
from cfdiff.models.latent import LatentSpace
from cfdiff.registry import SOLVERS
from cfdiff.store import open_result
from cfdiff.store.bags import open_bags
from cfdiff.translate.run import translate


def opened(toy: Any, tmp_path: Path, **changes: Any) -> tuple[Any, np.ndarray, list[str]]:
    """An editor of the latent toys, with eight healthy images and their ids."""
    from cfdiff.data.open import open_source

    settings = toy.settings(tmp_path / "run.h5", **changes)
    source = open_source(toy.data)
    rows = np.flatnonzero(source.labels == 0)[:8]
    return Editor(load_cast(settings, str(toy.data), source), settings), source.read(rows), list(source.ids[rows])


def copied(toy: Any, folder: Path, *names: str) -> Path:
    """A weights folder with copies of some of the toys' models, all if none is named."""
    folder.mkdir(exist_ok=True)
    for path in toy.weights.iterdir():
        if not names or path.stem in names:
            shutil.copy(path, folder / path.name)
    return folder


@pytest.mark.parametrize("edit", ["anchored", "regenerate"])
@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_no_guidance_is_no_change_bit_for_bit(toy_latent: Any, tmp_path: Path, solver: str, edit: str) -> None:
    if edit == "regenerate":  # it draws anew whatever guides: the outside is what stays
        editor, images, ids = opened(toy_latent, tmp_path, solver=solver, edit=edit, redraw_steps=4, redraws=1)
        edits = editor.edit(images, ids, 1)
        assert edits.mask is not None and 0 < edits.mask.mean() < 1
        assert (edits.counterfactual == images)[~edits.mask].all() and (edits.counterfactual != images).any()
        return
    editor, images, ids = opened(toy_latent, tmp_path, solver=solver, scale=0, steps=5, eta=0.5)
    assert (editor.edit(images, ids, 1).counterfactual == images).all()
    x = to_model(images.astype(np.float64) / 255)
    z = editor.cast.space.encode(x)
    back = editor.walk(editor.encode(z, ids, 0.4), ids, None)
    assert torch.equal(editor.cast.space.saved(x, z, back.z), x), "also where nothing is rounded"


def test_an_edit_changes_nothing_outside_a_mask_of_the_data(toy_latent: Any, tmp_path: Path) -> None:
    editor, images, ids = opened(toy_latent, tmp_path, mask="data")
    masks = np.zeros(images.shape[:3], bool)
    masks[:, 5:10, 3:9] = True
    edits = editor.edit(images, ids, 1, masks)
    changed = (edits.counterfactual != images).any(axis=-1)
    assert changed[masks].any() and not changed[~masks].any()


def test_an_image_is_the_same_whatever_it_shares_a_batch_with(toy_latent: Any, tmp_path: Path) -> None:
    editor, images, ids = opened(toy_latent, tmp_path)
    alone = editor.edit(images[:1], ids[:1], 1).counterfactual
    together = editor.edit(images, ids, 1).counterfactual[:1]
    assert np.abs(alone.astype(int) - together).max() <= 1


def test_the_decoder_passes_a_gradient_on(toy_latent: Any, tmp_path: Path) -> None:
    editor, images, ids = opened(toy_latent, tmp_path)
    cast = editor.cast
    z = cast.space.encode(to_model(images[:1])).requires_grad_()
    gradient = torch.autograd.grad(cast.clean_log_prob(z)[:, 1].sum(), z)[0]
    # Along the gradient, where the slope is greatest beside rounding, and by little, as there are kinks in the network.
    direction, h = gradient / gradient.norm(), 1e-3
    with torch.no_grad():
        ahead, behind = (float(cast.clean_log_prob(z + k * h * direction)[0, 1]) for k in (1, -1))
    assert float(gradient.norm()) == pytest.approx((ahead - behind) / (2 * h), rel=0.1, abs=1e-4) and gradient.any()


def test_latents_have_zero_mean_and_unit_variance_and_the_autoencoder_draws_what_it_saw(toy_latent: Any) -> None:
    images = np.load(toy_latent.data)["images"]
    x = to_model(images)
    space = load_model(toy_latent.weights / "diffusion.safetensors").space
    z = space.encode(x)
    assert z.shape[1:] == space.shape(1, 16, 16) == (3, 8, 8)
    assert z.mean((0, 2, 3)).abs().max() < 0.15 and (z.std((0, 2, 3)) - 1).abs().max() < 0.2
    assert (space.decode(z) - x).abs().mean() < 0.5 * (x - x.mean(0)).abs().mean()


def test_a_mask_is_open_where_any_of_its_pixels_is(toy_latent: Any) -> None:
    space = load_model(toy_latent.weights / "diffusion.safetensors").space
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 3, 4] = 1
    assert space.mask(mask).shape == (1, 1, 8, 8) and space.mask(mask).nonzero().tolist() == [[0, 0, 1, 2]]


def test_a_checker_of_latents_is_asked_without_the_decoder_and_of_images_through_the_encoder(
    toy_latent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = load_model(toy_latent.weights / "guide.safetensors")
    folder = copied(toy_latent, tmp_path / "weights")
    config = {**guide.card.config, "noisy": False}
    torch.manual_seed(0)
    net = Classifier(ClassifierConfig(**config))
    save_model(folder / "checker.safetensors", net, replace(guide.card, kind="clean-classifier", config=config))
    editor, images, ids = opened(replace(toy_latent, weights=folder), tmp_path, closed_loop=False)
    cast = editor.cast
    x = to_model(images).requires_grad_()
    z = cast.space.encode(x.detach())
    same = torch.log_softmax(cast.checker.net.classifier(z), 1)
    torch.testing.assert_close(cast.checker_log_prob(x), same, atol=1e-4, rtol=1e-4)
    assert torch.autograd.grad(cast.checker_log_prob(x)[:, 1].sum(), x)[0].abs().sum() > 0
    monkeypatch.setattr(LatentSpace, "decode", None)
    assert torch.equal(cast.clean_log_prob(z), same)
    monkeypatch.undo()
    both = ensemble([cast.checker, load_model(toy_latent.weights / "checker.safetensors")])
    told = cast.diffusion.card.space
    pixels = torch.log_softmax(both.net.members[1](cast.space.decode(z)), 1)
    torch.testing.assert_close(log_prob_in(both.net, z, cast.space, told), ((same + pixels) / 2).log_softmax(1))
    assert (editor.edit(images, ids, 1).counterfactual != images).any()


def test_the_encodings_of_a_batch_are_drawn_once_for_all_tries(
    toy_latent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, images, ids = opened(toy_latent, tmp_path, guides="noisy", closed_loop=False, accept=0.95, retries=3)
    drawn: list[int] = []
    whole = LatentSpace.decode

    def counted(self: LatentSpace, z: torch.Tensor) -> torch.Tensor:
        drawn.append(len(z))
        return whole(self, z)

    monkeypatch.setattr(LatentSpace, "decode", counted)
    edits = editor.edit(images, ids, 1)
    tries = int(edits.retries.max()) + 1
    assert len(drawn) == 1 + tries and drawn[0] == len(images)


@pytest.mark.parametrize("way", ["beside", "as a training writes it", "one folder higher"])
def test_the_autoencoder_is_found_where_a_folder_of_models_has_it(toy_latent: Any, tmp_path: Path, way: str) -> None:
    folder = copied(toy_latent, tmp_path / "weights")
    if way != "beside":
        for name in ("diffusion", "guide"):
            (folder / name).mkdir()
            (folder / f"{name}.safetensors").rename(folder / name / "model.safetensors")
    if way == "as a training writes it":
        shutil.copy(folder / "autoencoder.safetensors", folder / "diffusion" / "autoencoder.safetensors")
        (folder / "autoencoder.safetensors").unlink()
    elif way == "one folder higher":
        (folder / "autoencoder").mkdir()
        (folder / "autoencoder.safetensors").rename(folder / "autoencoder" / "model.safetensors")
    toy = replace(toy_latent, weights=folder)
    editor, images, ids = opened(toy, tmp_path)
    assert (editor.edit(images[:2], ids[:2], 1).counterfactual != images[:2]).any()


def test_a_missing_or_a_wrong_autoencoder_is_one_sentence(toy_latent: Any, tmp_path: Path) -> None:
    folder = copied(toy_latent, tmp_path / "weights")
    (folder / "autoencoder.safetensors").unlink()
    words = ["translate", "--data", str(toy_latent.data), "--weights", str(folder), "--out", str(tmp_path / "run.h5")]
    told = str(CliRunner().invoke(app, words).exception)
    assert "'diffusion' " not in told and "none lies beside it: copy autoencoder.safetensors" in told
    torch.manual_seed(5)
    mine = load_model(toy_latent.weights / "autoencoder.safetensors")
    other = build_autoencoder(AutoencoderConfig(**mine.card.config))
    save_model(folder / "autoencoder.safetensors", other, mine.card)
    told = str(CliRunner().invoke(app, words).exception)
    assert "only another one lies there, 'autoencoder.safetensors'" in told and told.count(". ") == 0


def test_guide_and_diffusion_model_must_be_at_home_in_one_space(toy: Any, toy_latent: Any, tmp_path: Path) -> None:
    folder = copied(toy_latent, tmp_path / "weights")
    shutil.copy(toy.weights / "guide.safetensors", folder / "guide.safetensors")
    mixed = replace(toy_latent, weights=folder)
    with pytest.raises(UserError, match="sees the space 'pixel', and the diffusion .* in the space 'latent'"):
        opened(mixed, tmp_path)
    editor, images, ids = opened(mixed, tmp_path, guides="clean")
    assert editor.cast.guide is None, "it came along with the folder, and nothing asks it"
    guide = load_model(toy_latent.weights / "guide.safetensors")
    elsewhere = replace(guide.card, space={"name": "latent", "autoencoder": "0" * 64})
    save_model(folder / "guide.safetensors", guide.net, elsewhere)
    with pytest.raises(UserError, match=r"sees the space 'latent', autoencoder 0{12}, and .* autoencoder \w{12}"):
        opened(mixed, tmp_path)


def test_a_card_of_a_newer_space_is_one_sentence(toy_latent: Any, tmp_path: Path) -> None:
    model = load_model(toy_latent.weights / "diffusion.safetensors")
    for space, said in (({"name": "wavelet"}, "does not know"), ({"name": "latent", "levels": 3}, "of a newer cfdiff")):
        save_model(tmp_path / "diffusion.safetensors", model.net, replace(model.card, space=space))
        with pytest.raises(UserError, match=said):
            _ = load_model(tmp_path / "diffusion.safetensors").space


def run(toy: Any, *words: str) -> str:
    """What a command prints on latent toys."""
    where = ["--data", str(toy.data), "--weights", str(toy.weights), "--device", "cpu", "--threads", "1"]
    result = CliRunner().invoke(app, [*words, *where])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


QUICK = ["--steps", "5", "--depth", "0.7", "--ratio", "1", "--retries", "1"]


@pytest.mark.parametrize("edit", ["anchored", "regenerate", "auto"])
def test_translate_flips_in_every_way_of_editing(toy_latent: Any, tmp_path: Path, edit: str) -> None:
    out = tmp_path / "run.h5"
    settings = toy_latent.settings(out, edit=edit, depth=0.7, ratio=1.0, redraw_steps=6, redraws=2, limit=8)
    summary = translate(settings)
    with open_result(out) as r:
        assert np.isfinite(r.difference[:]).all() and (r.counterfactual[:] != r.source[:]).any()
        assert r.settings.get("edit") == edit
    assert summary.images == 8 and summary.flipped_checker >= 0.5


@pytest.mark.parametrize("mode", ["instance", "joint"])
def test_bags_are_edited_in_both_modes(toy_latent: Any, tmp_path: Path, mode: str) -> None:
    out = tmp_path / "bags.h5"
    run(toy_latent, "bag", "--mode", mode, "--bag-size", "8", "--bags", "1", "--mix", "0.75", "--out", str(out), *QUICK)
    with open_bags(out) as bags:
        edited = bags.read("row/edited")
        assert edited.any() and not edited.all()


def test_doctor_looks_at_the_guide_in_its_own_space(toy_latent: Any, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["doctor", "--data", str(toy_latent.data), "--weights", str(toy_latent.weights), "--json", "--limit", "24",
         *QUICK, "--device", "cpu"],
    )  # fmt: skip
    lines = {line["name"]: line for line in json.loads(result.output)["lines"]}
    assert lines["identity"]["status"] == "ok" and lines["direction (guide)"]["status"] != "fail"
    assert {"autoencoder", "guide by level", "eps error", "guidance", "trial edit"} <= set(lines)


def test_doctor_says_in_a_line_that_the_guide_runs_elsewhere(toy: Any, toy_latent: Any, tmp_path: Path) -> None:
    folder = copied(toy_latent, tmp_path / "weights")
    shutil.copy(toy.weights / "guide.safetensors", folder / "guide.safetensors")
    words = ["doctor", "--data", str(toy_latent.data), "--weights", str(folder), "--json", "--limit", "12", *QUICK]
    result = CliRunner().invoke(app, [*words, "--device", "cpu"])
    lines = json.loads(result.output)["lines"]
    assert any(line["status"] == "fail" and "same space" in f"{line['figure']} {line['advice']}" for line in lines), (
        lines
    )


def test_tune_and_evaluate_work_as_in_pixels(toy_latent: Any, tmp_path: Path) -> None:
    from cfdiff.tune.run import tune
    from cfdiff.tune.settings import TuneSettings

    where = {"data": str(toy_latent.data), "weights": str(toy_latent.weights), "device": "cpu"}
    found = tune(
        TuneSettings(
            **where,
            out=tmp_path / "edit.toml",
            steps=5,
            depth=0.4,
            images=4,
            trials=2,
            retries=1,
            force=True,
            split="all",
        )
    )
    assert found.chosen
    out = tmp_path / "run.h5"
    translate(toy_latent.settings(out, limit=8))
    told = json.loads(
        CliRunner().invoke(app, ["evaluate", str(out), "--json", "--weights", str(toy_latent.weights), "--data",
                                 str(toy_latent.data), "--no-realism", "--round-trip", "--device", "cpu"]).output
    )  # fmt: skip
    assert 0 <= told["sections"]["minimal"]["figures"]["ssim"]["all"]["value"] <= 1


def test_a_latent_ddim_sample_is_that_of_a_loop_in_diffusers(toy_latent: Any) -> None:
    """Their scheduler and their decoder, our eps: the peer's whole pipeline but for the network."""
    diffusers = pytest.importorskip("diffusers")
    model = load_model(toy_latent.weights / "diffusion.safetensors")
    denoise, schedule, steps = model.denoiser(), model.schedule, 10
    scheduler = diffusers.DDIMScheduler(
        num_train_timesteps=schedule.T,
        trained_betas=schedule.betas.numpy(),
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    tau = make_tau(schedule, 1, steps)
    assert [t + 1 for t in scheduler.timesteps.tolist()] == tau[:0:-1]
    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = start
    with torch.no_grad():
        for t in scheduler.timesteps:
            theirs = scheduler.step(denoise(theirs, int(t) + 1), t, theirs).prev_sample
        net = model.space.net
        drawn = net.net.decode(theirs / net.scale + net.shift).sample
        theirs = torch.nn.functional.pixel_shuffle(drawn, 2)
    path = replace(encode_ddim(schedule, denoise, start, tau), x=[start] * len(tau))
    path.eps[-1] = denoise(start, tau[-1]).detach()
    ours = decode(schedule, denoise, path, solver=Ddim(), anchored=False, noise=NoiseSource(0, ["a", "b"]))
    torch.testing.assert_close(model.space.decode(ours), theirs, atol=1e-4, rtol=1e-4)
