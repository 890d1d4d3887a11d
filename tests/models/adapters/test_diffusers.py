"""Folders that diffusers itself wrote: its network and its sampler are what ours is held against."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cfdiff import registry
from cfdiff.edit.settings import EditSettings
from cfdiff.engine import Ddim, make_tau
from cfdiff.errors import UserError
from cfdiff.models.adapters.diffusers import card_of, latents_of
from cfdiff.models.adapters.diffusers_folder import open_folder
from cfdiff.models.checkpoint import Model, load_diffusion

diffusers = pytest.importorskip("diffusers")

SIZE = 8
TINY = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1, "attention_head_dim": 4}
PLAIN = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
TEXT = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
SCHEDULERS = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "short": {"beta_schedule": "linear", "num_train_timesteps": 50, "beta_start": 0.001, "beta_end": 0.1},
    "trained_betas": {"trained_betas": torch.linspace(0.001, 0.05, 200).tolist(), "num_train_timesteps": 200},
}


def randomised(net: torch.nn.Module) -> Any:
    """Weights that matter everywhere: what begins at zero would hide a difference."""
    g = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=g)
    return net.eval()


def unet(**changes: Any) -> Any:
    torch.manual_seed(0)
    options = {"sample_size": SIZE, "in_channels": 1, "out_channels": 1, **TINY, **PLAIN, **changes}
    return randomised(diffusers.UNet2DModel(**options))


def condition_unet(**changes: Any) -> Any:
    torch.manual_seed(0)
    options = {"sample_size": SIZE, "in_channels": 3, "out_channels": 3, "cross_attention_dim": 6, **TINY, **TEXT}
    return randomised(diffusers.UNet2DConditionModel(**{**options, **changes}))


def dit(**changes: Any) -> Any:
    torch.manual_seed(0)
    small = {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 2, "norm_num_groups": 4}
    options = {"sample_size": SIZE, "in_channels": 1, "out_channels": 2, "num_embeds_ada_norm": 2, **small}
    return randomised(diffusers.DiTTransformer2DModel(**{**options, **changes}))


def saved(folder: Path, net: Any, kind: str = "DDPMScheduler", **scheduler: Any) -> Path:
    """The folder of a network with its scheduler's config."""
    net.save_pretrained(folder)
    getattr(diffusers, kind)(**scheduler).save_pretrained(folder)
    return folder


def image(channels: int = 1, n: int = 2) -> Tensor:
    return torch.randn(n, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def theirs_ddim(ask: Callable[[Tensor, int], Tensor], config: dict[str, Any], steps: int, x: Tensor) -> Tensor:
    """A sample as diffusers' DDIMScheduler draws it, from the scheduler config of the folder."""
    options = {"clip_sample": False, "set_alpha_to_one": True, "timestep_spacing": "trailing"}
    scheduler = diffusers.DDIMScheduler.from_config({**config, **options})
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(ask(x, int(t)), t, x).prev_sample
    return x


@torch.no_grad()
def ours_ddim(model: Model, steps: int, x: Tensor, told: Tensor | None = None) -> Tensor:
    denoise = model.denoiser()
    tau = make_tau(model.schedule, 1, steps)
    for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
        x = Ddim(0.0).step(model.schedule, x, denoise(x, a, told), a, b)
    return x


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_schedule_is_the_schedulers(tmp_path: Path, name: str) -> None:
    model = load_diffusion(saved(tmp_path / "unet", unet(), **SCHEDULERS[name]))
    theirs = diffusers.DDPMScheduler(**SCHEDULERS[name]).alphas_cumprod.double()
    torch.testing.assert_close(model.schedule.alpha_bar[1:], theirs, rtol=2e-4, atol=1e-7)  # theirs are in float32
    assert model.schedule.alpha_bar[0] == 1 and len(theirs) == model.schedule.T
    if name == "linear":
        assert model.card.schedule == {"name": "linear", "T": 1000, "start": 1e-4, "end": 0.02}


def test_a_schedule_of_zero_terminal_snr_ends_just_above_zero(tmp_path: Path) -> None:
    told = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}
    folder = saved(tmp_path / "unet", unet(), "DDIMScheduler", **told)
    model = load_diffusion(folder)
    theirs = diffusers.DDIMScheduler(**told).alphas_cumprod.double()
    assert theirs[-1] == 0 and 0 < model.schedule.alpha_bar[-1] < 1e-7
    torch.testing.assert_close(model.schedule.alpha_bar[1:], theirs, rtol=2e-4, atol=1e-6)
    config = json.loads((folder / "scheduler_config.json").read_text())
    net = diffusers.UNet2DModel.from_pretrained(folder)
    want = theirs_ddim(lambda x, t: net(x, t).sample, config, 10, image())
    torch.testing.assert_close(ours_ddim(model, 10, image()), want, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("told", "ours"), [("epsilon", "eps"), ("sample", "x0"), ("v_prediction", "v")])
def test_eps_is_what_their_scheduler_makes_of_their_network(tmp_path: Path, told: str, ours: str) -> None:
    net = unet()
    model = load_diffusion(saved(tmp_path / "unet", net, prediction_type=told))
    assert model.card.parametrisation == ours and model.shape == (SIZE, SIZE, 1) and not model.conditional
    ab = diffusers.DDPMScheduler().alphas_cumprod.double()
    for level in (1, 400, 1000):
        x = image()
        with torch.no_grad():
            eps, out = model.denoiser()(x, level), net(x, level - 1).sample.double()
        signal, noise = ab[level - 1].sqrt(), (1 - ab[level - 1]).sqrt()
        want = {"eps": out, "x0": (x - signal * out) / noise, "v": noise * x + signal * out}[ours]
        tolerance = 1e-5 if ours == "eps" or level > 1 else 2e-3  # at level 1 their float32 noise has three digits
        torch.testing.assert_close(eps.double(), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2", "short"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_a_ddim_sample_is_theirs(tmp_path: Path, name: str, prediction: str) -> None:
    net, told = unet(), {**SCHEDULERS[name], "prediction_type": prediction}
    folder = saved(tmp_path / "unet", net, **told)
    config = json.loads((folder / "scheduler_config.json").read_text())
    want = theirs_ddim(lambda x, t: net(x, t).sample, config, 10, image())
    got = ours_ddim(load_diffusion(folder), 10, image())
    scale = float(want.abs().max())  # an untrained network's sample is large: it divides by sqrt(ab) ten times
    torch.testing.assert_close(got / scale, want / scale, rtol=1e-3, atol=2e-4)


def test_a_dit_with_learned_variance_is_told_two_classes_or_its_null_class(tmp_path: Path) -> None:
    net = dit()
    model = load_diffusion(saved(tmp_path / "dit", net))
    assert model.card.learned_sigma and model.conditional and model.denoiser().told_nothing
    x, level = image(n=3), 300
    with torch.no_grad():
        got = model.denoiser()(x, level, torch.tensor([0, 1, -1]))
        want = net(x, torch.full((3,), level - 1), torch.tensor([0, 1, 2])).sample[:, :1]
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        nothing = net(x, torch.full((3,), level - 1), torch.full((3,), 2)).sample[:, :1]
        torch.testing.assert_close(model.denoiser()(x, level), nothing, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(got[0], nothing[0], atol=1e-3)


def test_a_dit_of_many_classes_is_unconditional_unless_two_are_given(tmp_path: Path) -> None:
    net = dit(num_embeds_ada_norm=10)
    folder = saved(tmp_path / "dit", net)
    plain = load_diffusion(folder)
    (folder / "cfdiff.toml").write_text("classes = [7, 3]\n")
    told = load_diffusion(folder)
    assert not plain.conditional and told.conditional and plain.sha256 != told.sha256
    x, t = image(), torch.full((2,), 99)
    with torch.no_grad():
        torch.testing.assert_close(plain.denoiser()(x, 100), net(x, t, torch.full((2,), 10)).sample[:, :1])
        want = net(x, t, torch.tensor([7, 3])).sample[:, :1]
        torch.testing.assert_close(told.denoiser()(x, 100, torch.tensor([0, 1])), want)


def test_a_dit_that_was_saved_before_it_had_a_class_of_its_own_is_one(tmp_path: Path) -> None:
    folder = saved(tmp_path / "dit", dit())
    _edit(folder, "config.json", _class_name="Transformer2DModel", norm_type="ada_norm_zero")
    old, new = load_diffusion(folder), load_diffusion(saved(tmp_path / "new", dit()))
    with torch.no_grad():
        torch.testing.assert_close(old.denoiser()(image(), 5), new.denoiser()(image(), 5))


def test_a_unet_of_two_classes_must_be_told_one(tmp_path: Path) -> None:
    net = unet(num_class_embeds=2)
    model = load_diffusion(saved(tmp_path / "unet", net))
    assert model.conditional and not model.denoiser().told_nothing
    x, classes = image(), torch.tensor([1, 0])
    with torch.no_grad():
        torch.testing.assert_close(model.denoiser()(x, 5, classes), net(x, 4, class_labels=classes).sample)
        with pytest.raises(UserError, match="--base source"):
            model.denoiser()(x, 5)


def test_a_unet_of_more_classes_says_which_are_which_in_cfdiff_toml(tmp_path: Path) -> None:
    net = unet(num_class_embeds=3)
    folder = saved(tmp_path / "unet", net)
    with pytest.raises(UserError, match=r"knows 3 classes: write classes = \[NEGATIVE, POSITIVE\] into cfdiff.toml"):
        load_diffusion(folder)
    (folder / "cfdiff.toml").write_text("classes = [2, 0]\nnothing = 1\n")
    denoise, x = load_diffusion(folder).denoiser(), image(n=3)
    with torch.no_grad():
        want = net(x, 4, class_labels=torch.tensor([2, 0, 1])).sample
        torch.testing.assert_close(denoise(x, 5, torch.tensor([0, 1, -1])), want)
    for wrong, said in (
        ("classes = [0, 3]", "no class 3"),
        ("classes = [1, 1]", "different"),
        ("class = 1", "mend it"),
    ):
        (folder / "cfdiff.toml").write_text(wrong)
        with pytest.raises(UserError, match=said):
            load_diffusion(folder)


def test_a_network_that_reads_text_is_refused_unless_it_was_trained_with_zeros(tmp_path: Path) -> None:
    net = condition_unet()
    folder = saved(tmp_path / "unet", net)
    with pytest.raises(UserError, match="reads a text"):
        load_diffusion(folder)
    (folder / "cfdiff.toml").write_text('tokens = "zeros"\n')
    x = image(3)
    with torch.no_grad():
        got, want = load_diffusion(folder).denoiser()(x, 10), net(x, 9, torch.zeros(2, 4, 6)).sample
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_pipeline_of_texts_is_told_them_by_its_own_tower(tmp_path: Path) -> None:
    """Ours against their network called with their tower's hidden states, padded as their pipelines pad."""
    transformers = pytest.importorskip("transformers")
    from clips import CAPTIONS, save_folder

    clip = transformers.CLIPModel.from_pretrained(save_folder(tmp_path / "clip", size=8)).eval()
    words = transformers.CLIPTokenizer.from_pretrained(tmp_path / "clip")
    net, pipe = condition_unet(cross_attention_dim=32), tmp_path / "pipe"
    saved(pipe / "unet", net)
    (pipe / "unet" / "scheduler_config.json").rename(pipe / "scheduler_config.json")
    (pipe / "scheduler").mkdir()
    (pipe / "scheduler_config.json").rename(pipe / "scheduler" / "scheduler_config.json")
    clip.text_model.save_pretrained(pipe / "text_encoder")
    words.save_pretrained(pipe / "tokenizer")
    parts = {"unet": "UNet2DConditionModel", "scheduler": "DDPMScheduler", "text_encoder": "CLIPTextModel"}
    (pipe / "model_index.json").write_text(json.dumps({name: ["diffusers", kind] for name, kind in parts.items()}))
    (pipe / "cfdiff.toml").write_text(f'texts = ["{CAPTIONS[1]}", "{CAPTIONS[0]}"]\n')
    model, x = load_diffusion(pipe), image(3)
    assert model.reads and model.conditional
    for told, texts in ((torch.tensor([0, 1]), CAPTIONS[1::-1]), (None, ["", ""])):
        ids = words(list(texts), padding="max_length", max_length=16, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            want = net(x, 9, clip.text_model(input_ids=ids).last_hidden_state).sample
            torch.testing.assert_close(model.denoiser()(x, 10, told), want, rtol=1e-4, atol=1e-5)
    (pipe / "cfdiff.toml").write_text('texts = ["a cell", "A cell "]\n')
    with pytest.raises(UserError, match="cfdiff.toml in 'pipe' calls both classes 'a cell', which tells none apart"):
        load_diffusion(pipe)
    parts["text_encoder"] = "T5EncoderModel"
    (pipe / "model_index.json").write_text(json.dumps({name: ["diffusers", kind] for name, kind in parts.items()}))
    with pytest.raises(UserError, match="reads texts by T5EncoderModel"):
        load_diffusion(pipe)


def test_a_condition_unet_without_cross_attention_needs_no_text(tmp_path: Path) -> None:
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "mid_block_type": None}
    net = condition_unet(**blocks)
    x = image(3)
    with torch.no_grad():
        got = load_diffusion(saved(tmp_path / "unet", net)).denoiser()(x, 10)
        torch.testing.assert_close(got, net(x, 9, None).sample, rtol=1e-5, atol=1e-5)


def test_a_pipeline_its_network_and_its_shards_are_the_same_model(tmp_path: Path) -> None:
    net = unet()
    pipeline = diffusers.DDPMPipeline(net, diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
    pipeline.save_pretrained(tmp_path / "pipe")
    pipeline.save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    assert len(list((tmp_path / "shards" / "unet").glob("*-of-*.safetensors"))) > 1
    pipeline.save_pretrained(tmp_path / "half", variant="fp16")
    x = image()
    with torch.no_grad():
        want = net(x, 9).sample
        for folder in (tmp_path / "pipe", tmp_path / "pipe" / "unet", tmp_path / "shards", tmp_path / "half"):
            model = load_diffusion(folder)
            assert model.card.schedule is not None and model.card.schedule["name"] == "cosine"
            torch.testing.assert_close(model.denoiser()(x, 10), want)


def test_a_latent_pipeline_names_its_autoencoder_and_waits_for_the_latent_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = diffusers.AutoencoderKL(
        latent_channels=1,
        scaling_factor=0.3,
        block_out_channels=(4, 4, 4),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    )
    folder = tmp_path / "pipe"
    diffusers.DiTPipeline(dit(), vae, diffusers.DDIMScheduler()).save_pretrained(folder)
    files = [folder / "vae" / name for name in ("config.json", "diffusion_pytorch_model.safetensors")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    card = card_of(open_folder(folder))
    assert card.image == [4 * SIZE, 4 * SIZE, 3] and card.space == {"name": "latent", "autoencoder": digest}
    latents = latents_of(open_folder(folder / "transformer"))
    assert latents is not None and latents.scaling == 0.3 and latents.sha256 == digest

    monkeypatch.delitem(registry.SPACES, "latent", raising=False)
    with pytest.raises(UserError, match="no latent space to run it in"):
        load_diffusion(folder)
    for spoil, said in (
        (
            lambda: _edit(folder / "vae", "config.json", latent_channels=4),
            "its autoencoder makes 4",
        ),
        (lambda: _edit(folder / "vae", "config.json", scaling_factor="gone"), "does not say its block_out_channels"),
        (lambda: (folder / "vae" / "config.json").unlink(), "lacks vae/config.json"),
    ):
        spoil()
        with pytest.raises(UserError, match=said):
            load_diffusion(folder)


def _edit(folder: Path, file: str, **entries: Any) -> None:
    told = json.loads((folder / file).read_text())
    told = {key: value for key, value in (told | entries).items() if value != "gone"}
    (folder / file).write_text(json.dumps(told))


def _unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _pickled(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "diffusion_pytorch_model.bin")


def _cut(folder: Path) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-64])


def _not_all(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors.pop("conv_out.weight")
    save_file(tensors, path)


MISTAKES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (_unlink("config.json"), "holds no diffusion model of diffusers"),
    "no weights": (_unlink("diffusion_pytorch_model.safetensors"), "lacks diffusion_pytorch_model.safetensors"),
    "no scheduler": (_unlink("scheduler_config.json"), "put the scheduler_config.json"),
    "pickled": (_pickled, "are pickled"),
    "truncated": (_cut, "diffusers cannot load"),
    "a tensor missing": (_not_all, "conv_out.weight"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "no valid JSON"),
    "no object": (lambda f: (f / "config.json").write_text("[1]"), "no JSON object"),
    "another width": (lambda f: _edit(f, "config.json", block_out_channels=[8, 16]), "diffusers cannot load"),
    "another class": (lambda f: _edit(f, "config.json", _class_name="FluxTransformer2DModel"), "cannot use"),
    "no size": (lambda f: _edit(f, "config.json", sample_size=None), 'write "sample_size"'),
    "channels": (lambda f: _edit(f, "config.json", in_channels=9), "takes 9 channels and gives 1"),
    "fourier": (lambda f: _edit(f, "config.json", time_embedding_type="fourier"), "score-based"),
    "class type": (lambda f: _edit(f, "config.json", class_embed_type="timestep"), "class_embed_type null only"),
    "scheduler": (
        lambda f: _edit(f, "scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler"),
        "'FlowMatchEulerDiscreteScheduler' of unet is not known",
    ),
    "betas": (lambda f: _edit(f, "scheduler_config.json", beta_schedule="laplace"), "beta_schedule 'laplace'"),
    "prediction": (lambda f: _edit(f, "scheduler_config.json", prediction_type="flow"), "prediction_type 'flow'"),
    "no number": (lambda f: _edit(f, "scheduler_config.json", beta_end="high"), "gives no numbers"),
    "no list": (lambda f: _edit(f, "scheduler_config.json", trained_betas="low"), "no list of numbers"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_wrong_with_a_folder_is_one_sentence(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path / "unet", unet())
    spoil, said = MISTAKES[name]
    spoil(folder)
    with pytest.raises(UserError, match=said) as caught:
        load_diffusion(folder)
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_shard_and_a_missing_part_of_a_pipeline_are_named(tmp_path: Path) -> None:
    pipeline = diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler())
    pipeline.save_pretrained(tmp_path / "pipe", max_shard_size="4KB")
    shard = sorted((tmp_path / "pipe" / "unet").glob("*-of-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(UserError, match=f"lacks unet/{shard.name}"):
        load_diffusion(tmp_path / "pipe")
    (tmp_path / "pipe" / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(UserError, match="lacks scheduler/scheduler_config.json"):
        load_diffusion(tmp_path / "pipe")
    (tmp_path / "pipe" / "unet" / "config.json").unlink()
    with pytest.raises(UserError, match="lacks unet/config.json"):
        load_diffusion(tmp_path / "pipe")
    (tmp_path / "pipe" / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"]}')
    with pytest.raises(UserError, match="holds no unet and no transformer"):
        load_diffusion(tmp_path / "pipe")


def test_without_diffusers_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "unet", unet())
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'cfdiff\[diffusers\]'"):
        load_diffusion(folder)


def test_an_edit_takes_the_folder_and_no_guidance_changes_nothing(toy: Any, tmp_path: Path) -> None:
    from cfdiff.store import open_result
    from cfdiff.translate.run import translate

    folder = saved(tmp_path / "unet", unet(sample_size=16), num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    for scale, same in ((0.0, True), (20.0, False)):
        out = tmp_path / f"{scale}.h5"
        translate(toy.settings(out, diffusion=folder, scale=scale, retries=0, limit=2))
        with open_result(out) as r:
            assert bool((r.counterfactual[:] == r.source[:]).all()) == same


def test_a_network_that_must_be_told_a_class_edits_from_the_source_class(toy: Any, tmp_path: Path) -> None:
    from cfdiff.store import open_result
    from cfdiff.translate.run import translate

    net = unet(sample_size=16, num_class_embeds=2)
    folder = saved(tmp_path / "unet", net, num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    with pytest.raises(UserError, match="use --base source"):
        translate(toy.settings(tmp_path / "a.h5", diffusion=folder, limit=2))
    translate(toy.settings(tmp_path / "b.h5", diffusion=folder, limit=2, base="source", guides="both+cfg", scale=0.0))
    with open_result(tmp_path / "b.h5") as r:
        assert (r.counterfactual[:] == r.source[:]).all()


def test_images_of_another_size_are_refused_with_both_sizes(toy: Any, tmp_path: Path) -> None:
    from cfdiff.translate.run import translate

    folder = saved(tmp_path / "unet", unet(), num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    with pytest.raises(UserError, match=r"are 16x16 with 1 channel, but the diffusion model 'unet' takes 8x8"):
        translate(toy.settings(tmp_path / "a.h5", diffusion=folder, limit=2))


def test_the_settings_take_a_folder_as_any_path(tmp_path: Path) -> None:
    assert EditSettings(diffusion=tmp_path).diffusion == tmp_path
