"""No guidance is no change, bit for bit: in pixels and latents, with our models and other people's, by every solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adm_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cfdiff
from cfdiff.data.open import open_source
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.roles import load_cast
from cfdiff.registry import EDITS, SOLVERS

pipelines = pytest.importorskip("pipelines")  # needs diffusers
SIZE = 16


def imported_adm(folder: Path) -> Path:
    folder.mkdir()
    torch.save(reference.unet_state(sigma=True), folder / "model.pt")
    told = {"image_size": SIZE, "num_head_channels": 16, "diffusion_steps": 100, "noise_schedule": "cosine"}
    cfdiff.import_adm(folder / "model.pt", **told, rescale_timesteps=False)
    return folder / "model.safetensors"


@dataclass(frozen=True)
class Kind:
    """A diffusion model with classifiers that could steer it, and settings of an edit."""

    cast: Cast
    s: Any
    channels: int


Makes = Callable[[str], Kind]
KINDS = ("pixel", "latent", "diffusers", "diffusers latent", "diffusers DiT", "diffusers text", "adm")


@pytest.fixture(scope="module")
def kind(toy: Any, toy_latent: Any, toy_rgb: Any, tmp_path_factory: pytest.TempPathFactory) -> Makes:
    """The models of a name in KINDS, made when first asked for."""
    made: dict[str, Kind] = {}

    def make(name: str) -> Kind:
        if name not in made:
            folder = tmp_path_factory.mktemp("models") / name.replace(" ", "-")
            of, more = {
                "pixel": lambda: (toy, {}),
                "latent": lambda: (toy_latent, {}),
                "diffusers": lambda: (toy, {"diffusion": pipelines.pixel_folder(folder)}),
                "diffusers latent": lambda: (toy, {"diffusion": pipelines.latent_pipeline(folder), "guides": "clean"}),
                "diffusers DiT": lambda: (toy, {"diffusion": pipelines.dit_folder(folder)}),
                "diffusers text": lambda: (toy, {"diffusion": pipelines.text_folder(folder)}),
                "adm": lambda: (toy_rgb, {"diffusion": imported_adm(folder), "guides": "clean"}),
            }[name]()
            guided = of.settings(Path("run.h5"), **more, redraw_steps=3, redraws=1)
            cast = load_cast(guided, str(of.data), open_source(of.data))
            made[name] = Kind(cast, guided, cast.diffusion.shape[2])
        return made[name]

    return make


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("solver", sorted(SOLVERS))
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_without_guidance_every_model_gives_the_image_itself(kind: Makes, name: str, solver: str, data: Any) -> None:
    models = kind(name)
    told = {
        "scale": 0.0,
        "solver": solver,
        "edit": data.draw(st.sampled_from([*EDITS, "auto"])),
        "steps": data.draw(st.integers(1, 5)),
        "encode_per_step": data.draw(st.integers(1, 2)),
        "depth": data.draw(st.floats(0.1, 1.0)),
        "eta": data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        "clip": data.draw(st.booleans()),
        "inversion": data.draw(st.sampled_from(["ddim", "fixed-point", "noise"])),
        "seed": data.draw(st.integers(0, 99)),
    }
    editor = Editor(models.cast, models.s.model_copy(update=told))
    dtype = data.draw(st.sampled_from(["float32", "uint8"]))
    values = np.random.default_rng(told["seed"]).random((2, SIZE, SIZE, models.channels))
    images = values.astype(np.float32) if dtype == "float32" else np.rint(255 * values).astype(np.uint8)
    for target in (0, 1):
        edits = editor.edit(images, ["a", "b"], target)
        assert edits.counterfactual.tobytes() == images.tobytes()
        assert not edits.quarantined.any() and not edits.guide_calls.any()
    back, finite = editor.reconstruct(images, ["a", "b"])
    assert back.tobytes() == images.tobytes() and finite.all()


@pytest.mark.parametrize("name", KINDS)
def test_with_guidance_every_model_gives_another_image(kind: Makes, name: str) -> None:
    models = kind(name)
    images = np.random.default_rng(0).random((2, SIZE, SIZE, models.channels)).astype(np.float32)
    for way in EDITS:
        editor = Editor(models.cast, models.s.model_copy(update={"edit": way, "closed_loop": False, "retries": 0}))
        assert (editor.edit(images, ["a", "b"], 1).counterfactual != images).any((1, 2, 3)).all(), way
