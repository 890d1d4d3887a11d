"""Whole runs of `cfdiff generate` on the toys: what is written, resumed, measured, and refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest

import cfdiff
from cfdiff.cli import app as program
from cfdiff.errors import UserError
from cfdiff.generate.run import generate
from cfdiff.generate.sampler import Sampler
from cfdiff.generate.settings import GenerateSettings
from cfdiff.models.bundled import WEIGHTS
from cfdiff.models.checkpoint import load_model, save_model
from cfdiff.models.encoders import Attributes, AttributesConfig
from cfdiff.models.prompted import Prompted
from cfdiff.models.unet import UNet, UNetConfig
from cfdiff.store.samples import open_samples

Settings = Callable[..., GenerateSettings]


@pytest.fixture
def quick(toy: Any, tmp_path: Path) -> Settings:
    """Settings of a quick run on the toys."""

    def make(**changes: Any) -> GenerateSettings:
        usual = {"data": str(toy.data), "weights": str(toy.weights), "out": tmp_path / "out.h5", "device": "cpu"}
        return GenerateSettings(**{**usual, "images": 10, "steps": (4,), "batch_size": 4, **changes})

    return make


def images(path: Path) -> np.ndarray:
    with open_samples(path) as samples:
        return samples.image[:]


def test_a_file_a_picture_and_figures_beside_real_against_real(quick: Settings) -> None:
    found = generate(quick(steps=(6, 3)))
    assert found.picture == found.result.with_suffix(".png") and found.picture.read_bytes()[:4] == b"\x89PNG"
    with open_samples(found.result) as samples:
        assert len(samples) == 20 and samples.image.shape == (20, 16, 16, 1) and samples.image.dtype == np.uint8
        assert samples["steps"][:].tolist() == [3] * 10 + [6] * 10
        assert samples["id"][[0, 19]].tolist() == ["seed-0/steps-3", "seed-9/steps-6"]
        assert samples.attrs["direction"] == "noise -> any class"
        assert set(samples.attrs["models"]) == {"diffusion", "judge"}, "and none that is not asked"
        assert samples.settings["guides"] == "none" and samples.settings["clip"] and "out" not in samples.settings
        p = samples["prob/judge"][:]
    assert [walk.steps for walk in found.walks] == [3, 6] == [walk.network_calls for walk in found.walks]
    for k, walk in enumerate(found.walks):
        assert list(walk.figures) == ["fid", "fid_real", "kid", "kid_real"]
        assert walk.figures["fid"].label == "FID (features of judge)" and walk.figures["fid"].all.n == 10
        assert walk.seen is not None and walk.seen.all.value == float((p[10 * k : 10 * k + 10, 1] > 0.5).mean())
    assert found.walks[0].figures["fid_real"] == found.walks[1].figures["fid_real"]
    assert found.against == "48 real images of both classes in toy.npz"
    assert json.loads(json.dumps(found.as_json()))["walks"][1]["figures"]["kid"]["better"] == "lower"
    assert "FID (features of judge)" in repr(found)


def test_the_same_command_again_draws_nothing_and_another_is_refused(quick: Settings) -> None:
    first = generate(quick())
    before = first.result.read_bytes()
    again = generate(quick(compare=False))
    assert again.seconds_per_image is None and again.not_measured == "not asked for"
    assert first.seconds_per_image is not None and first.result.read_bytes() == before
    with pytest.raises(UserError, match="exists already"):
        generate(quick(seed=5))
    generate(quick(seed=5, force=True))
    assert first.result.read_bytes() != before


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    quick: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = generate(quick(out=tmp_path / "whole.h5")).result.read_bytes()
    drawn, rows = [], Sampler.rows

    def stopped(self: Sampler, plan: Any, which: np.ndarray, starts: Any) -> Any:
        drawn.append(int(which[0]))
        if which[0] == 8:
            raise KeyboardInterrupt
        return rows(self, plan, which, starts)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Sampler, "rows", stopped)
        generate(quick())
    assert drawn == [0, 4, 8] and not (tmp_path / "out.h5").exists() and not (tmp_path / "out.png").exists()
    drawn.clear()

    def counted(self: Sampler, plan: Any, which: np.ndarray, starts: Any) -> Any:
        drawn.append(int(which[0]))
        return rows(self, plan, which, starts)

    monkeypatch.setattr(Sampler, "rows", counted)
    assert generate(quick()).result.read_bytes() == whole and drawn == [8]


def test_the_batch_size_changes_no_image(quick: Settings, tmp_path: Path) -> None:
    one = images(generate(quick(batch_size=3, out=tmp_path / "a.h5")).result).astype(int)
    other = images(generate(quick(batch_size=10, out=tmp_path / "b.h5")).result).astype(int)
    assert np.abs(one - other).max() <= 1, "but for the rounding of the last bit"


def test_a_class_by_the_guide_and_by_the_model_that_knows_it(quick: Settings, toy_told: Any, tmp_path: Path) -> None:
    plain = images(generate(quick(compare=False, out=tmp_path / "plain.h5")).result)
    guided = generate(quick(class_="sick", compare=False, out=tmp_path / "noisy.h5"))
    assert guided.direction == "noise -> positive (sick)" and guided.led_by == "noisy"
    assert 0 < guided.walks[0].guide_calls <= 4 and not np.array_equal(images(guided.result), plain)
    told = {"weights": str(toy_told.weights), "compare": False, "class_": "sick"}
    assert generate(quick(**told, out=tmp_path / "cfg.h5")).led_by == "cfg"
    assert generate(quick(**told, w=1, out=tmp_path / "told.h5")).led_by == "told"
    both = generate(quick(**told, guides="noisy+cfg", out=tmp_path / "both.h5"))
    with open_samples(both.result) as samples:
        assert samples.settings["guides"] == "noisy+cfg" and samples.attrs["models"].keys() >= {"guide", "diffusion"}


def test_in_latents(quick: Settings, toy_latent: Any) -> None:
    found = generate(quick(weights=str(toy_latent.weights), compare=False, class_="positive"))
    with open_samples(found.result) as samples:
        assert samples.image.shape == (10, 16, 16, 1) and not samples.settings["clip"]
        assert set(samples["status"][:]) == {"ok"} and samples.image[:].std() > 0


def test_a_path_between_real_images(quick: Settings, toy: Any, tmp_path: Path) -> None:
    ends = ("cell/000.png", "cell/001.png")
    found = generate(quick(interpolate="images", ends=ends, images=5))
    assert found.not_measured == "the images of one path are no sample"
    with open_samples(found.result) as samples:
        assert samples["id"][0] == "cell/000.png..cell/001.png/0.0000"
        assert samples.settings["ends"][:2] == list(ends) and samples["position"][-1] == 1
    generate(quick(interpolate="images", images=3, out=tmp_path / "any.h5"))


def test_without_data_images_are_8_bit_and_nothing_is_compared(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = generate(
        GenerateSettings(diffusion=toy.weights / "diffusion.safetensors", images=2, steps=(2,), device="cpu")
    )
    assert found.result == Path("runs/generated.h5") and found.result.is_file()
    assert found.not_measured == "no real images at hand: name them with --data" and found.walks[0].seen is None
    with open_samples(found.result) as samples:
        assert samples.image.dtype == np.uint8 and samples.settings["classes"] == ["healthy", "sick"]


def test_a_model_beside_bundled_weights_is_measured_on_their_data_where_that_fits(toy: Any, tmp_path: Path) -> None:
    usual = {"weights": "malaria-cells", "images": 8, "steps": (1,), "device": "cpu"}
    fits = WEIGHTS / "malaria-cells" / "diffusion.safetensors"
    found = generate(GenerateSettings(**usual, diffusion=fits, out=tmp_path / "a.h5"))
    assert found.not_measured is None and found.against == "512 real images of both classes in malaria-cells"
    other = toy.weights / "diffusion.safetensors"
    judge = toy.weights / "judge.safetensors"
    found = generate(GenerateSettings(**usual, diffusion=other, judge=judge, out=tmp_path / "b.h5"))
    assert found.not_measured == "no real images at hand: name them with --data"


def test_a_path_is_called_by_its_ends(quick: Settings, tmp_path: Path) -> None:
    ends = ("cell/000.png", "cell/001.png")
    usual = {"images": 2, "compare": False}
    path = generate(quick(**usual, interpolate="images", ends=ends))
    assert path.direction == "cell/000.png -> cell/001.png"
    with open_samples(path.result) as samples:
        assert samples.attrs["direction"] == path.direction
    seeds = quick(**usual, interpolate="seeds", ends=("3", "17"), class_="sick", out=tmp_path / "seeds.h5")
    assert generate(seeds).direction == "seed 3 -> seed 17, positive (sick)"


def test_a_network_of_diffusers(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    net = diffusers.UNet2DModel(
        16, 3, 3, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4, add_attention=False, **blocks
    )
    net.save_pretrained(tmp_path / "model")
    diffusers.DDPMScheduler(num_train_timesteps=50).save_pretrained(tmp_path / "model" / "scheduler")
    s = GenerateSettings(diffusion=tmp_path / "model", images=3, steps=(3,), out=tmp_path / "out.h5", device="cpu")
    found = cfdiff.generate(s, progress=False)
    assert images(found.result).shape == (3, 16, 16, 3)


def test_a_model_that_must_be_told_a_class(quick: Settings, toy_told: Any, tmp_path: Path) -> None:
    model = load_model(toy_told.weights / "diffusion.safetensors")
    path = tmp_path / "must.safetensors"
    save_model(path, model.net, replace(model.card, told_nothing=False))
    for options, words in (({}, "name one with --class"), ({"class_": "sick"}, "use --w 1")):
        with pytest.raises(UserError, match=words):
            generate(quick(diffusion=path, **options))
    assert generate(quick(diffusion=path, class_="sick", w=1, compare=False)).led_by == "told"


@pytest.fixture
def attributes(toy_told: Any, tmp_path: Path) -> Path:
    """A diffusion model that is told how bright an image is, and no class."""
    told = Attributes(AttributesConfig(columns={"brightness": ("dark", "bright")}, width=8))
    net = UNet(UNetConfig(size=(16, 16), width=8, mult=(1, 2), attention=(1,), tokens=8))
    card = load_model(toy_told.weights / "diffusion.safetensors").card
    encoder = {"name": "attributes", **told.config.model_dump(mode="json")}
    config = {"network": "unet-tokens", **net.config.model_dump(mode="json"), "encoder": encoder}
    card = replace(card, config={**config, "texts": ["none", "none"]}, condition="tokens")
    save_model(tmp_path / "attributes.safetensors", Prompted(net, told, ("none", "none")), card)
    return tmp_path / "attributes.safetensors"


def test_a_model_that_is_told_no_class_is_led_to_one_by_the_guide(quick: Settings, attributes: Path) -> None:
    assert generate(quick(diffusion=attributes, class_="sick", compare=False)).led_by == "noisy"
    for w in (1, 2):
        with pytest.raises(UserError, match="has the same words for both"):
            generate(quick(diffusion=attributes, class_="sick", guides="cfg", w=w))
    found = generate(quick(diffusion=attributes, text="bright", compare=False, force=True))
    assert found.led_by == "cfg" and found.direction == "noise -> 'bright'"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"text": ""}, "^--text '' says nothing"),
        ({"text": "none"}, "^--text 'none' says nothing"),
        ({"text": "bright", "negative_text": ""}, "^--negative-text is empty"),
        ({"text": "bright", "negative_text": "brightness=bright"}, "^--text and --negative-text say the same"),
    ],
)
def test_texts_that_lead_nowhere_are_refused(
    quick: Settings, attributes: Path, options: dict[str, str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        generate(quick(diffusion=attributes, **options))


def test_the_guide_clip_names_the_options_of_this_command(quick: Settings, tmp_path: Path) -> None:
    clip = {"guides": "clip", "image_text": clips.save_folder(tmp_path / "clip")}
    for text, words in (("", "^--text '' says nothing"), ("a sick cell", "^--text and --negative-text say the same")):
        with pytest.raises(UserError, match=words):
            generate(quick(text=text, negative_text="a sick cell", **clip))
    with pytest.raises(UserError, match="say with --text what the image is to be"):
        generate(quick(class_="sick", **clip))


@pytest.fixture
def refused(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., str]:
    """Give `generate` these options over good ones, and get the sentence that it says."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(*words: str) -> str:
        usual = ["--data", str(toy.data), "--weights", str(toy.weights), "--steps", "2", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["cfdiff", "generate", *usual, *words])
        with pytest.raises(SystemExit) as ended:
            program.main()
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("Error: ") and said.count("\n") == 1, said
        assert not list(work.iterdir()), "something was left behind"
        return said

    return run


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--class red", "no class of toy.npz"),
        ("--class sick --guides cfg", "knows the classes"),
        ("--class sick --guides magic", "no guide 'magic'"),
        ("--solver magic", "no solver 'magic'"),
        ("--steps 500", "more than the 99 levels"),
        ("--steps 5,5", "stands there twice"),
        ("--ends 1,2", "--interpolate seeds or images"),
        ("--interpolate seeds --ends 1,2,3", "two ends, not 3"),
        ("--interpolate images --ends a,b", "has no image 'a': its ids are such as 'cell/000.png'."),
        ("--interpolate seeds --solver ddpm", "draws new noise"),
        ("--interpolate seeds --images 1", "at least 2 images"),
        ("--picture a.txt", "should end in one of .png"),
        ("--split moon", "no splits"),
        ("--features magic", "timm knows no model"),
        ("--weights nowhere", "no folder 'nowhere'"),
    ],
)
def test_a_users_mistake_is_one_sentence(refused: Callable[..., str], options: str, words: str) -> None:
    assert words in refused(*options.split())


def test_json_and_the_table(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    usual = ["--data", toy.data, "--weights", toy.weights, "--steps", "2,3", "--images", 8, "--device", "cpu"]
    printed = []
    for more in (["--json"], []):
        command = ["cfdiff", "generate", *map(str, usual), "--out", str(tmp_path / "run.h5"), *more]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            program.main()
        assert ended.value.code == 0
        printed.append(capsys.readouterr().out)
    assert [walk["steps"] for walk in json.loads(printed[0])["walks"]] == [2, 3]
    shown = re.sub(r"[^\w.]+", " ", printed[1])  # a narrow terminal breaks lines within cells
    assert all(words in shown for words in ("2 steps", "3 steps", "FID features", "KID features", "on each side"))


def test_the_sampler_is_ddpm_and_between_two_ends_one_without_noise() -> None:
    assert GenerateSettings().solver == "ddpm" and GenerateSettings(interpolate="seeds").solver == "dpm++"
    assert GenerateSettings(interpolate="images", solver="ddim").solver == "ddim"
    assert GenerateSettings(interpolate="seeds", solver="ddpm").solver == "ddpm", "as it is asked for, to be refused"
