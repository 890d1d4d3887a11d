"""Checkpoints by the documented layout become model files of ours, and do what the checkpoint does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adm_reference as reference
import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import cfdiff
from cfdiff.cli.app import app
from cfdiff.engine import Ddim, make_tau
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import load_diffusion, load_model
from cfdiff.store import open_result
from cfdiff.translate.run import translate

FLAGS = {"image_size": 8, "num_head_channels": 16}


def checkpoint(folder: Path, state: dict[str, Tensor], name: str = "model.pt") -> Path:
    torch.save(state, folder / name)
    return folder / name


def imported(path: Path, **flags: Any) -> Path:
    cfdiff.import_adm(path, **{**FLAGS, "force": True, **flags})
    return path.with_suffix(".safetensors")


def image(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(5))


def ask(state: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor | None = None, **how: Any) -> Tensor:
    """eps of the checkpoint itself."""
    with torch.no_grad():
        return reference.unet(state, x, t, y, heads=-16, **how)[:, :3]


def their_ddim(eps: Callable[[Tensor, int], Tensor], ab: np.ndarray, x: Tensor) -> Tensor:
    """GaussianDiffusion.ddim_sample without noise, in float64: all levels of a spaced process, the highest first."""
    x = x.double()
    for i in reversed(range(len(ab))):
        e = eps(x.float(), i).double()
        below = ab[i - 1] if i else 1.0
        x0 = x / ab[i] ** 0.5 - (1 / ab[i] - 1) ** 0.5 * e
        x = x0 * below**0.5 + (1 - below) ** 0.5 * e
    return x


def betas(T: int, name: str) -> np.ndarray:
    """get_named_beta_schedule."""
    if name == "linear":
        return np.linspace(0.0001 * 1000 / T, 0.02 * 1000 / T, T)
    f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def test_a_line_of_the_readme_is_taken_as_it_stands(tmp_path: Path) -> None:
    state = reference.unet_state(sigma=True)
    path = checkpoint(tmp_path, state)
    flags = (
        "--attention_resolutions 4 --class_cond False --diffusion_steps 1000 --dropout 0.1 --image_size 8 "
        "--learn_sigma True --noise_schedule linear --num_channels 32 --num_head_channels 16 --num_res_blocks 1 "
        "--resblock_updown True --use_new_attention_order False --use_fp16 True --use_scale_shift_norm True"
    )
    done = CliRunner().invoke(app, ["models", "import", "adm", str(path), *flags.split()])
    assert done.exit_code == 0, done.output
    assert "eps and a variance" in done.output and "8x8, 3 channels" in done.output
    model = load_diffusion(tmp_path / "model.safetensors")
    x, levels = image(3), torch.tensor([1, 400, 1000])
    with torch.no_grad():
        got = model.denoiser()(x, levels)
    torch.testing.assert_close(got, ask(state, x, levels - 1), rtol=1e-5, atol=1e-5)
    assert model.card.learned_sigma and model.shape == (8, 8, 3)
    assert str(tmp_path) not in json.dumps(model.card.training)


def test_improved_diffusion_of_more_steps_scales_its_timesteps(tmp_path: Path) -> None:
    state = reference.unet_state(scale_shift=False, updown=False)
    path = checkpoint(tmp_path, {f"module.{key}": value for key, value in state.items()})
    with pytest.raises(UserError, match="--rescale-timesteps False is the default of guided-diffusion"):
        imported(path, diffusion_steps=4000, noise_schedule="cosine")
    model = load_diffusion(imported(path, diffusion_steps=4000, noise_schedule="cosine", rescale_timesteps=True))
    x = image()
    with torch.no_grad():
        got = model.denoiser()(x, 3001)
    torch.testing.assert_close(got, ask(state, x, torch.full((2,), 750.0), updown=False), rtol=1e-5, atol=1e-5)
    assert model.schedule.T == 4000
    np.testing.assert_allclose(model.schedule.betas.numpy(), betas(4000, "cosine"), rtol=1e-9)


@pytest.mark.parametrize("told", ["ddim25", "10", "3,2,2"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_spaced_ddim_sample_is_theirs(tmp_path: Path, told: str, name: str) -> None:
    state = reference.unet_state(sigma=True)
    spaced = {"timestep_respacing": told, "noise_schedule": name, "diffusion_steps": 100, "rescale_timesteps": True}
    model = load_diffusion(imported(checkpoint(tmp_path, state), **spaced))
    chosen = {"ddim25": range(0, 100, 4), "10": range(0, 100, 11), "3,2,2": [0, 16, 33, 34, 66, 67, 99]}
    used = list(chosen[told])
    ab = np.cumprod(1 - betas(100, name))[used]
    want = their_ddim(lambda x, i: ask(state, x, torch.full((2,), 10.0 * used[i])), ab, image())
    denoise, got = model.denoiser(), image()
    tau = make_tau(model.schedule, 1, len(used))
    with torch.no_grad():
        for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
            got = Ddim(0.0).step(model.schedule, got, denoise(got, a), a, b)
    scale = float(want.abs().max())
    torch.testing.assert_close(got.double() / scale, want / scale, rtol=1e-3, atol=2e-5)


def test_a_ddim_sample_of_the_whole_process_is_theirs_at_the_same_timesteps(tmp_path: Path) -> None:
    """Without --timestep-respacing our tau chooses, and asks the same network at the same timesteps."""
    state = reference.unet_state()
    model = load_diffusion(imported(checkpoint(tmp_path, state)))
    tau = make_tau(model.schedule, 1, 20)
    used = [level - 1 for level in tau[1:]]
    ab = np.cumprod(1 - betas(1000, "linear"))[used]
    want = their_ddim(lambda x, i: ask(state, x, torch.full((2,), used[i])), ab, image())
    denoise, got = model.denoiser(), image()
    with torch.no_grad():
        for a, b in zip(tau[:0:-1], tau[-2::-1], strict=True):
            got = Ddim(0.0).step(model.schedule, got, denoise(got, a), a, b)
    scale = float(want.abs().max())
    torch.testing.assert_close(got.double() / scale, want / scale, rtol=1e-3, atol=2e-5)


def test_classes_are_those_that_are_given(tmp_path: Path) -> None:
    state = reference.unet_state(labels=6)
    path = checkpoint(tmp_path, state)
    with pytest.raises(UserError, match="knows 6 classes: give --classes NEGATIVE,POSITIVE"):
        imported(path)
    model = load_diffusion(imported(path, classes=(4, 1), negative="healthy", positive="sick"))
    assert model.conditional and not model.denoiser().told_nothing and model.card.data["classes"] == ["healthy", "sick"]
    x, t = image(), torch.full((2,), 99)
    with torch.no_grad():
        got = model.denoiser()(x, 100, torch.tensor([0, 1]))
    torch.testing.assert_close(got, ask(state, x, t, torch.tensor([4, 1])), rtol=1e-5, atol=1e-5)
    never = load_diffusion(imported(path, null_class=5))
    with torch.no_grad():
        got = never.denoiser()(x, 100)
    torch.testing.assert_close(got, ask(state, x, t, torch.tensor([5, 5])), rtol=1e-5, atol=1e-5)
    assert not never.conditional
    both = load_diffusion(imported(path, null_class=5, classes=(0, 1)))
    assert both.conditional and both.denoiser().told_nothing
    for wrong, said in (((0, 6), "no class 6"), ((1, 1), "different"), ((3,), "two indices")):
        with pytest.raises(UserError, match=said):
            imported(path, classes=wrong)


def test_half_precision_is_asked_for_and_full_is_exact(tmp_path: Path) -> None:
    state = reference.unet_state()
    path = checkpoint(tmp_path, state)
    full = load_model(imported(path)).net.state_dict()
    assert all(torch.equal(full[key], value) for key, value in state.items()) and full.keys() == state.keys()
    assert imported(path).stat().st_size > 1.9 * imported(path, half=True).stat().st_size


def test_the_classifier_becomes_a_guide_of_two_classes(tmp_path: Path) -> None:
    state = reference.encoder_state(labels=10)
    path = checkpoint(tmp_path, state)
    words = (
        "--image_size 8 --classifier_depth 1 --classifier_width 32 --classifier_pool attention --num-head-channels 16"
    )
    done = CliRunner().invoke(
        app, ["models", "import", "adm-classifier", str(path), *words.split(), "--classes", "7,3"]
    )
    assert done.exit_code == 0, done.output
    guide = load_model(tmp_path / "model.safetensors", "noisy-classifier")
    assert guide.shape == (8, 8, 3) and guide.card.schedule == {"name": "linear", "T": 1000, "start": 1e-4, "end": 0.02}
    x, levels = image(), torch.tensor([200, 1000])
    with torch.no_grad():
        got = guide.net(x, guide.schedule.log_snr(levels))
        want = reference.encoder(state, x, levels - 1)[:, [7, 3]]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


MODEL: dict[str, tuple[dict[str, Any], str]] = {
    "width": ({"num_channels": 64}, "--num-channels 64: by its tensors it is one of --num-channels 32"),
    "two flags": ({"num_channels": 64, "learn_sigma": False}, "--num-channels 32, --learn-sigma True"),
    "blocks": ({"num_res_blocks": 2}, "--num-res-blocks 1"),
    "multipliers": ({"channel_mult": "1,3"}, "--channel-mult 1,2"),
    "attention": ({"attention_resolutions": "8,4"}, "--attention-resolutions 4"),
    "size": (
        {"image_size": 16, "attention_resolutions": "4"},
        "--image-size 16: by its tensors it is one of --image-size 8",
    ),
    "odd size": ({"image_size": 9}, "halves its images 1 times"),
    "class": ({"class_cond": True}, "--class-cond False"),
    "norm": ({"use_scale_shift_norm": False}, "--use-scale-shift-norm True"),
    "updown": ({"resblock_updown": False}, "--resblock-updown True"),
    "channels": ({"in_channels": 4}, "--in-channels 3"),
    "heads": ({"num_head_channels": -1, "num_heads": 5}, "no whole heads"),
    "head width": ({"num_head_channels": 48}, "no whole heads"),
    "classes": ({"classes": (0, 1)}, "learned no classes"),
    "words": ({"attention_resolutions": "a"}, "no list of numbers"),
    "names": ({"negative": "a"}, "belong together"),
    "suffix": ({"out": "model.bin"}, "end it in .safetensors"),
}


@pytest.mark.parametrize("name", MODEL)
def test_a_flag_that_contradicts_the_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    path = checkpoint(tmp_path, reference.unet_state(sigma=True))
    flags, said = MODEL[name]
    with pytest.raises(UserError, match=said) as caught:
        imported(path, **flags)
    assert "\n" not in str(caught.value) and not path.with_suffix(".safetensors").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"classifier_depth": 4}, "--classifier-depth 4 does not give"),
        ({"classifier_width": 64}, "--classifier-width 32"),
        ({"classifier_pool": "spatial"}, "--classifier-pool attention"),
        ({"image_size": 16}, "--image-size 8"),
        ({"classifier_attention_resolutions": "8"}, "--classifier-attention-resolutions 4"),
        ({"classes": None}, "knows 10 classes: give --classes"),
        ({"num_head_channels": 48}, "no whole heads"),
    ],
)
def test_a_flag_that_contradicts_the_classifier_is_named(tmp_path: Path, flags: dict[str, Any], said: str) -> None:
    path = checkpoint(tmp_path, reference.encoder_state(labels=10))
    right = {"image_size": 8, "classifier_depth": 1, "num_head_channels": 16, "classes": (7, 3)}
    cfdiff.import_adm_classifier(path, out=tmp_path / "right.safetensors", **right)
    with pytest.raises(UserError, match=said):
        cfdiff.import_adm_classifier(path, **{**right, **flags})


class Harmful:
    """What a pickle may hold besides tensors."""


def test_what_is_no_checkpoint_of_theirs_is_one_sentence(tmp_path: Path) -> None:
    state = reference.unet_state()
    torch.save(Harmful(), tmp_path / "pickle.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    torch.save([1], tmp_path / "list.pt")
    (tmp_path / "cut.pt").write_bytes(checkpoint(tmp_path, state).read_bytes()[:-500])
    (tmp_path / "empty.pt").touch()
    checkpoint(tmp_path, {key: value for key, value in state.items() if key != "out.0.bias"}, "lacks.pt")
    checkpoint(tmp_path, {**state, "extra": torch.zeros(1)}, "more.pt")
    checkpoint(tmp_path, {**state, "out.0.bias": torch.zeros(7)}, "shape.pt")
    checkpoint(tmp_path, {**state, "out.0.bias": torch.full((32,), torch.nan)}, "nan.pt")
    checkpoint(tmp_path, reference.encoder_state(), "encoder.pt")
    for name, said in (
        ("missing", "There is no checkpoint 'missing.pt'"),
        ("pickle", "holds more than tensors"),
        ("other", "has no time_embed.0.weight"),
        ("list", "holds no state_dict"),
        ("cut", "truncated or damaged"),
        ("empty", "truncated or damaged"),
        ("lacks", "lacks out.0.bias"),
        ("more", "holds extra"),
        ("shape", "out.0.bias in shape.pt is 7"),
        ("nan", "no finite numbers"),
        ("encoder", "adm-classifier reads it"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            imported(tmp_path / f"{name}.pt")
        assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cfdiff models import adm reads it"):
        cfdiff.import_adm_classifier(tmp_path / "model.pt", image_size=8)
    with pytest.raises(UserError, match="cfdiff models import adm model.pt"):
        load_diffusion(tmp_path / "model.pt")


def test_a_file_that_is_there_is_kept_unless_forced(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, reference.unet_state())
    imported(path)
    with pytest.raises(UserError, match="is there already"):
        cfdiff.import_adm(path, **FLAGS)


def test_a_state_dict_among_other_things_is_found(tmp_path: Path) -> None:
    state = reference.unet_state()
    path = checkpoint(tmp_path, {"state_dict": state, "step": torch.tensor(3)})
    assert cfdiff.import_adm(path, **FLAGS).parameters == sum(value.numel() for value in state.values())


def test_both_imports_steer_an_edit_together_and_no_guidance_changes_nothing(toy_rgb: Any, tmp_path: Path) -> None:
    shape = {"image_size": 16, "num_head_channels": 16, "diffusion_steps": 100, "noise_schedule": "cosine"}
    told = {**shape, "rescale_timesteps": False}
    cfdiff.import_adm(checkpoint(tmp_path, reference.unet_state(sigma=True), "d.pt"), **told)
    guide = checkpoint(tmp_path, reference.encoder_state(size=16), "g.pt")
    cfdiff.import_adm_classifier(guide, classifier_depth=1, **told)
    models = {"diffusion": tmp_path / "d.safetensors", "guide": tmp_path / "g.safetensors"}
    for scale in (0.0, 20.0):
        out = tmp_path / f"{scale}.h5"
        translate(toy_rgb.settings(out, **models, scale=scale, retries=0, limit=2))
        with open_result(out) as r:
            assert bool((r.counterfactual[:] == r.source[:]).all()) == (scale == 0.0)
