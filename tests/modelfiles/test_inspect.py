from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import adm_reference as reference
import pytest
import torch
from typer.testing import CliRunner

import cfdiff
from cfdiff.cli.app import app
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import load_model, save_model


def test_our_own_files_say_what_their_cards_do(toy: Any, toy_told: Any) -> None:
    path = toy.weights / "diffusion.safetensors"
    found, model = cfdiff.inspect_model(path), load_model(path)
    assert found.kind == "diffusion" and found.image == [16, 16, 1] and found.sees is None
    assert found.parameters == sum(p.numel() for p in model.net.parameters())
    assert found.types == ["F16"] and found.bytes == path.stat().st_size and found.sha256 == model.sha256
    assert found.schedule is not None and found.schedule["T"] == 100 and found.data == {"classes": ["healthy", "sick"]}
    assert dict(found.rows())["may be told"] == "nothing"
    assert dict(found.rows())["noise schedule"] == "cosine, T 100, s 0.008"
    told = cfdiff.inspect_model(toy_told.weights / "diffusion.safetensors")
    assert told.condition == "class" and dict(told.rows())["may be told"] == "the class or nothing"
    guide = cfdiff.inspect_model(toy.weights / "guide.safetensors")
    assert guide.kind == "noisy-classifier" and guide.network == "resnet10t" and guide.parametrisation is None


def test_the_command_prints_a_table_or_json(toy: Any) -> None:
    path = toy.weights / "checker.safetensors"
    run = CliRunner().invoke(app, ["models", "inspect", str(path), "--json"])
    assert run.exit_code == 0 and json.loads(run.output) == cfdiff.inspect_model(path).as_json()
    run = CliRunner().invoke(app, ["models", "inspect", str(path)])
    assert run.exit_code == 0 and "clean-classifier" in run.output and "16x16, 1 channel" in run.output


def test_a_folder_of_diffusers_is_described_without_diffusers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diffusers = pytest.importorskip("diffusers")
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}
    net = diffusers.UNet2DModel(sample_size=[8, 16], norm_num_groups=4, num_class_embeds=2, out_channels=6, **blocks)
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", beta_schedule="scaled_linear")
    diffusers.DDIMPipeline(net, scheduler).save_pretrained(tmp_path / "pipe", max_shard_size="8KB")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    found = cfdiff.inspect_model(tmp_path / "pipe")
    assert found.network == "UNet2DModel" and found.image == [8, 16, 3] and found.labels == 2
    assert found.parameters == sum(p.numel() for p in net.parameters()) and found.types == ["F32"]
    assert found.parametrisation == "v" and found.learned_sigma and found.condition == "class"
    assert found.schedule == {"name": "betas", "betas": "1000 of them"}
    assert dict(found.rows())["may be told"] == "the class, and must be: --base source"


def test_a_checkpoint_says_what_shows_and_what_to_do(tmp_path: Path) -> None:
    torch.save(reference.unet_state(labels=4, sigma=True), tmp_path / "model.pt")
    torch.save(reference.encoder_state(labels=9, pool="spatial"), tmp_path / "guide.pt")
    found = cfdiff.inspect_model(tmp_path / "model.pt")
    assert found.made["num_channels"] == 32 and found.made["channel_mult"] == (1, 2) and found.made["learn_sigma"]
    assert found.labels == 4 and found.advice is not None and "import adm model.pt --image-size N" in found.advice
    assert found.sha256 == hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest()
    guide = cfdiff.inspect_model(tmp_path / "guide.pt")
    assert guide.kind == "noisy-classifier" and guide.labels == 9 and guide.made["pool"] == "spatial"
    assert json.loads(json.dumps(guide.as_json()))["advice"].startswith("cfdiff models import adm-classifier guide.pt")


def test_an_imported_file_says_what_it_was_made_of(tmp_path: Path) -> None:
    torch.save(reference.unet_state(labels=4), tmp_path / "model.pt")
    made = cfdiff.import_adm(tmp_path / "model.pt", image_size=8, num_head_channels=16, classes=(3, 0))
    assert made == cfdiff.inspect_model(tmp_path / "model.safetensors")
    assert made.network == "adm-unet" and made.image == [8, 8, 3] and made.labels == 4
    assert made.made["imported"]["checkpoint"] == "model.pt" and made.made["imported"]["classes"] == [3, 0]


def test_a_guide_of_another_space_says_so(toy: Any, tmp_path: Path) -> None:
    model = load_model(toy.weights / "guide.safetensors")
    card = replace(model.card, space={"name": "latent", "autoencoder": "abc"}, image=[64, 64, 3])
    save_model(tmp_path / "guide.safetensors", model.net, card)
    rows = dict(cfdiff.inspect_model(tmp_path / "guide.safetensors").rows())
    assert rows["space"] == "latent, autoencoder abc"
    assert rows["images"] == "64x64, 3 channels" and rows["the network sees"] == "16x16, 1 channel"


def test_what_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("no model")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    for name, said in (
        ("missing", "There is no model 'missing'"),
        ("folder", "holds no diffusion model of diffusers"),
        ("text.txt", "truncated or damaged"),
        ("cut.safetensors", "truncated or damaged"),
    ):
        with pytest.raises(UserError, match=said):
            cfdiff.inspect_model(tmp_path / name)
