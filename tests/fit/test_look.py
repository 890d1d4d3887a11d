from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cfdiff.data.open import open_source
from cfdiff.errors import UserError
from cfdiff.fit.classifiers import ARCHITECTURES
from cfdiff.fit.look import few, look
from cfdiff.fit.settings import FitSettings
from cfdiff.fit.space import fitting_space, scaled_for_classifiers, seen_by_diffusion
from cfdiff.models.classifier import ClassifierConfig, build_classifier

N = 120


def written(path: Path, **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "images": rng.integers(0, 256, (N, 16, 16), np.uint8),
        "labels": np.arange(N) % 2,
        "classes": np.array(["sound", "defect"]),
        "group": np.array([f"g{i // 10}" for i in range(N)]),
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def noted(path: Path, **changes: Any) -> str:
    source = open_source(written(path, **changes))
    return " ".join(look(source, fitting_space("auto", source.shape)))


def test_data_without_faults_needs_no_word(tmp_path: Path) -> None:
    assert noted(tmp_path / "d.npz") == ""


def test_what_misleads_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (N, 16, 16), np.uint8)
    assert "which images belong together" in noted(tmp_path / "a.npz", group=None)
    brighter = images // 2 + 60 * (np.arange(N) % 2).astype(np.uint8)[:, None, None]
    assert "'defect' is brighter than 'sound' (AUC 1.00" in noted(tmp_path / "b.npz", images=brighter)
    copied = images.copy()
    copied[1] = copied[0]
    assert "stand in both classes" in noted(tmp_path / "c.npz", images=copied)
    copied = images.copy()
    copied[50] = copied[0]
    assert "copies of one another" in noted(tmp_path / "e.npz", images=copied)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": np.r_[np.zeros(N - 3), np.ones(3)].astype(int)}, "has 3 images of class 'defect'.*needs 40"),
        ({"images": np.zeros((N, 520, 520), np.uint8)}, "520x520.*512x512 at most.*cfdiff data convert .*--size 128"),
        ({"images": np.zeros((N, 100, 100), np.uint8)}, "100x100.*multiples of 8.*--size 104"),
        ({"images": np.zeros((N, 300, 300), np.uint8)}, "300x300.*multiples of 16.*--size 304"),
        ({"images": np.zeros((N, 18, 18), np.uint8)}, "18x18.*multiples of 4.*--size 20"),
        ({"images": np.zeros((N, 18, 16), np.uint8)}, "18x16.*multiples of 4.*which cuts the centre square"),
        ({"images": np.full((N, 16, 16), 4095, np.uint16)}, "brightest pixel of d.npz is at 6.2% .* uint16 .12 bits"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_way_out(tmp_path: Path, changes: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        noted(tmp_path / "d.npz", **changes)


def test_a_column_of_pairs_that_are_none_is_a_word_and_masks_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    pairs = np.array([f"visit {i % 3}" for i in range(N)])
    assert "Nothing is measured against true twins. The pair" in noted(tmp_path / "p.npz", pair=pairs)

    def broken(rows: np.ndarray) -> np.ndarray:
        if 100 in rows:
            raise UserError("The mask of image 100 is a JPEG.")
        return np.zeros((len(rows), 16, 16), bool)

    source = open_source(written(tmp_path / "m.npz"))
    with pytest.raises(UserError, match="mask of image 100"):
        look(replace(source, mask_reader=broken))


def test_so_many_images_are_looked_at_as_fit_into_memory() -> None:
    def of(*shape: int) -> Any:
        return SimpleNamespace(shape=shape)

    assert few(of(64, 64, 3)) == 512 and few(of(512, 512, 3)) == 85


def test_the_space_is_chosen_by_size_or_as_asked() -> None:
    assert [fitting_space("auto", (side, side, 1)) for side in (28, 64, 92, 96, 512)] == ["pixel"] * 3 + ["latent"] * 2
    assert fitting_space("pixel", (128, 128, 3)) == "pixel" and fitting_space("latent", (16, 16, 1)) == "latent"
    assert seen_by_diffusion("pixel", (128, 128, 3)) == (128, 128, 3)
    assert seen_by_diffusion("latent", (128, 128, 3)) == (32, 32, 8)
    assert seen_by_diffusion("latent", (512, 512, 3)) == (64, 64, 8)
    assert seen_by_diffusion("latent", (128, 128, 1)) == (32, 32, 4)


def test_classifiers_see_what_costs_little_and_shows_enough() -> None:
    seen = {side: scaled_for_classifiers((side, side, 1)) for side in (28, 32, 48, 64, 128, 256, 512)}
    assert seen[28] == seen[32] == {"upsample": 2} == scaled_for_classifiers((28, 64, 1)) and seen[48] == seen[64] == {}
    assert scaled_for_classifiers((8, 8, 4)) == {"upsample": 6}
    assert seen[128] == seen[256] == {"downsample": 2} and seen[512] == {"downsample": 4}


def test_the_settings_have_a_place_for_the_data_and_defaults_for_the_rest() -> None:
    assert FitSettings(data="x").minutes == 60


def test_the_command_asks_for_the_data_and_has_the_spellings_of_the_others() -> None:
    from typer.testing import CliRunner

    from cfdiff.cli.app import app

    missing = CliRunner().invoke(app, ["fit"])
    assert missing.exit_code == 2 and "DATA" in missing.output
    shown = CliRunner().invoke(app, ["fit", "--help"], env={"COLUMNS": "200"}).output
    assert "--json " in shown and "--minutes" in shown and "[default: 60.0]" in shown


@pytest.mark.parametrize("size", [(8, 8), (16, 40), (28, 28), (34, 34), (64, 64), (128, 128), (512, 512)])
@pytest.mark.parametrize("arch", sorted(set(ARCHITECTURES.values())))
def test_the_architectures_of_a_fit_take_images_of_any_size(arch: str, size: tuple[int, int]) -> None:
    build_classifier(ClassifierConfig(arch=arch, channels=3, size=size, **scaled_for_classifiers(size)))
