"""What a user gets who gives `cfdiff translate` a folder, an autoencoder or a classifier that does not do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cfdiff.models.checkpoint import load_diffusion, load_model, save_model

pipelines = pytest.importorskip("pipelines")  # needs diffusers
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent pipeline of 16 px, gray."""
    return pipelines.latent_pipeline(tmp_path_factory.mktemp("whole") / "pipe")


@pytest.fixture
def pipe(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(whole, tmp_path / "pipe"))


def edited(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_a_whole_pipeline_is_not_refused(toy: Any, pipe: Path, tmp_path: Path) -> None:
    from cfdiff.translate.run import translate

    translate(toy.settings(tmp_path / "run.h5", diffusion=pipe, guides="clean", limit=1, retries=0))


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no folder of any model": (lambda pipe: pipe.parent, "holds no diffusion model of diffusers"),
    "the autoencoder in place of the network": (lambda pipe: pipe / "vae", "holds a AutoencoderKL, which"),
    "the scheduler in place of the network": (lambda pipe: pipe / "scheduler", "holds no diffusion model of diffusers"),
    "a folder that is not there": (lambda pipe: pipe / "gone", "gone"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_folder(refused: Refused, pipe: Path, name: str) -> None:
    where, said = WRONG[name]
    assert said in refused(diffusion=where(pipe), guides="clean")


def test_a_pipeline_given_as_weights_and_as_classifier(refused: Refused, pipe: Path) -> None:
    assert "holds no diffusion.safetensors" in refused(weights=pipe)
    assert "'pipe'" in refused(judge=pipe) or "pipe" in refused(judge=pipe)


def _without(name: str) -> Callable[[Path], None]:
    return lambda pipe: (pipe / name).unlink()


def _cut(name: str) -> Callable[[Path], None]:
    def cut(pipe: Path) -> None:
        path = pipe / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


WEIGHTS = "diffusion_pytorch_model.safetensors"
HALF: dict[str, tuple[Callable[[Path], None], str]] = {
    "no weights of the network": (_without(f"unet/{WEIGHTS}"), f"lacks unet/{WEIGHTS}"),
    "no weights of the autoencoder": (_without(f"vae/{WEIGHTS}"), f"lacks vae/{WEIGHTS}"),
    "no config of the network": (_without("unet/config.json"), "lacks unet/config.json"),
    "no config of the autoencoder": (_without("vae/config.json"), "lacks vae/config.json"),
    "no scheduler": (_without("scheduler/scheduler_config.json"), "lacks scheduler/scheduler_config.json"),
    "half the network": (_cut(f"unet/{WEIGHTS}"), "copy"),
    "half the autoencoder": (_cut(f"vae/{WEIGHTS}"), "'vae' is damaged"),
    "half an index": (_cut("model_index.json"), "no valid JSON"),
}


@pytest.mark.parametrize("name", HALF)
def test_a_half_copied_folder(refused: Refused, pipe: Path, name: str) -> None:
    spoil, said = HALF[name]
    spoil(pipe)
    assert said in refused(diffusion=pipe, guides="clean")


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_pickled_weights_in_a_pipeline(refused: Refused, pipe: Path, part: str) -> None:
    (pipe / part / WEIGHTS).unlink()
    torch.save({}, pipe / part / "diffusion_pytorch_model.bin")
    assert "pickled" in refused(diffusion=pipe, guides="clean")


@pytest.mark.parametrize("role", ["checker", "judge"])
@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".ckpt", ".bin"])
def test_a_pickled_classifier(refused: Refused, tmp_path: Path, role: str, suffix: str) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / f"mine{suffix}")
    assert "pickle" in refused(**{role: tmp_path / f"mine{suffix}"})


def test_a_network_and_an_autoencoder_of_other_latents(refused: Refused, pipe: Path) -> None:
    edited(pipe / "vae" / "config.json", latent_channels=4)
    assert "makes 4" in refused(diffusion=pipe, guides="clean")


def test_images_of_another_size_than_the_pipeline_draws(
    refused: Refused, toys: Any, pipe: Path, tmp_path: Path
) -> None:
    said = refused(data=toys.write_npz(tmp_path / "big.npz", 4, size=24), diffusion=pipe, guides="clean")
    assert "24x24" in said and "16x16" in said and "--tile 16" in said


def test_a_pipeline_of_another_size_than_classifiers(refused: Refused, toys: Any, pipe: Path, tmp_path: Path) -> None:
    edited(pipe / "unet" / "config.json", sample_size=12)
    data = toys.write_npz(tmp_path / "big.npz", 4, size=24)
    said = refused(data=data, diffusion=pipe, guides="clean")
    assert "24x24" in said and "guide" in said and "16x16" in said and "--tile" not in said


def test_a_guide_of_the_same_autoencoder_in_another_scaling(
    refused: Refused, toy_latent: Any, pipe: Path, tmp_path: Path
) -> None:
    """Its latents are twice as large, so what a guide learned of the others is worth nothing."""
    guide = load_model(toy_latent.weights / "guide.safetensors")
    path = tmp_path / "guide.safetensors"
    shutil.copytree(pipe / "vae", tmp_path / "vae")
    save_model(path, guide.net, replace(guide.card, space=load_diffusion(pipe).card.space))
    edited(pipe / "vae" / "config.json", scaling_factor=0.35)
    said = refused(diffusion=pipe, guide=path)
    assert "The guide 'guide' sees the space 'latent', autoencoder" in said and "same --autoencoder" in said


def test_one_of_our_models_beside_its_autoencoder_in_another_scaling(
    refused: Refused, toy_latent: Any, pipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    model = load_model(toy_latent.weights / "diffusion.safetensors")
    shutil.copytree(pipe / "vae", folder / "autoencoder")
    save_model(folder / "diffusion.safetensors", model.net, replace(model.card, space=load_diffusion(pipe).card.space))
    edited(folder / "autoencoder" / "config.json", scaling_factor=0.35)
    said = refused(diffusion=folder / "diffusion.safetensors", guides="clean")
    assert "only another one lies there, 'autoencoder'" in said


def thousand(folder: Path) -> Path:
    """A timm classifier of 1000 classes, as a state dict."""
    import timm

    torch.manual_seed(0)
    net = timm.create_model("resnet10t", num_classes=1000, channels=[8, 16, 16, 16], stem_width=8)
    path = folder / "imagenet.safetensors"
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("role", ["checker", "verifier", "judge"])
def test_a_classifier_of_a_thousand_classes_without_indices(refused: Refused, tmp_path: Path, role: str) -> None:
    from cfdiff.models.description import write_description

    path = thousand(tmp_path)
    said = refused(**{role: path})
    assert "imagenet" in said and "classes" in said
    told = {
        "arch": "resnet10t",
        "kwargs": {"channels": [8, 16, 16, 16], "stem_width": 8},
        "output": "logits",
        "normalisation": "imagenet",
        "channels": 3,
        "size": "images",
    }
    write_description(path, told)
    said = refused(**{role: path})
    assert "classes" in said and "imagenet" in said
    write_description(path, {**told, "classes": "7,1000"})
    assert "no 1000" in refused(**{role: path})
