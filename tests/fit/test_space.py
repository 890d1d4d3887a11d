"""A fit in latents. In a file of its own, so that it runs beside that in pixels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import write_npz

from cfdiff.fit.plan import OF_CLASSES, SECOND, TRAININGS
from cfdiff.fit.run import fit
from cfdiff.fit.settings import FitSettings
from cfdiff.models.checkpoint import read_card
from cfdiff.settings import resolve
from cfdiff.train.result import TrainResult
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings


@pytest.mark.slow
def test_a_fit_in_latents_trains_its_autoencoder_first_and_leaves_it_beside_the_models(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    data, told = write_npz(tmp_path / "spots.npz", 240), []
    s = FitSettings(data=str(data), out=tmp_path / "out", minutes=0.35, device="cpu", threads=1, space="latent")
    small = dict.fromkeys(OF_CLASSES, "resnet14t") | {"verifier": "resnet10t", "judge": "resnet18"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfdiff.fit.pace.WIDTHS", {8: 0})
        patch.setattr("cfdiff.fit.pace.LEAST", 1)
        patch.setattr("cfdiff.fit.classifiers.ARCHITECTURES", small)
        patch.setattr("cfdiff.fit.stages.SURE", 2)
        result = fit(s, lambda what, done, n: told.append(what))
    one = tuple(role for role in TRAININGS if role != SECOND)
    spaces = {role: read_card(tmp_path / "out" / role / "model.safetensors").space for role in ("autoencoder", *one)}
    assert told[0].startswith("autoencoder (1 of 10)")
    assert spaces["diffusion"] == spaces["guide"] == spaces["checker"] and spaces["diffusion"]["name"] == "latent"
    assert spaces["verifier"] is spaces["judge"] is spaces["autoencoder"] is None
    assert not (tmp_path / "out" / "diffusion" / "autoencoder.safetensors").exists(), "it is there once"
    assert not (tmp_path / "out" / SECOND).exists(), "the first needs its time"
    used = json.loads((tmp_path / "out" / "fit.json").read_text())["used"]
    trained = TrainResult.of(tmp_path / "out" / "verifier" / "model.safetensors")
    assert trained.minutes > used["verifier"] / 60
    assert result.reconstruction is not None and result.reconstruction["psnr"] > 5 and "dB, SSIM" in repr(result)
    assert set(result.accuracy) == set(one) - {"diffusion"}
    again = translate(resolve(TranslateSettings, None, {
        "data": str(data), "weights": str(tmp_path / "out"), "out": tmp_path / "run.h5", "limit": 4, "device": "cpu"
    }))  # fmt: skip
    assert again.images == 4
