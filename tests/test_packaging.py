"""The wheel, installed where the checkout cannot be imported, does the main job from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def _run(*command: str | Path, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel and, beside it, what these tests run on."""
    env = tmp_path_factory.mktemp("env")
    _run(sys.executable, "-m", "venv", "--without-pip", env, cwd=env)
    python = env / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    _run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=env)
    # A folder named in a .pth file is searched, but the .pth files in it (our editable install) are not read.
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=env).strip())
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(folders)) + "\n")
    return env / "bin"


def test_the_wheel_holds_package_weights_data_and_configs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name.split("/", 1)[1] for name in archive.namelist() if ".dist-info/" in name}
    assert {name.split("/")[0] for name in names} == {"cfdiff"}
    assert {"cfdiff/py.typed", "cfdiff/_bundled/datasets/malaria-cells/malaria-cells.npz"} <= names
    assert {"licenses/LICENSE", "entry_points.txt"} <= metadata
    for suffix, source, target in (
        (".safetensors", ROOT / "cfdiff" / "weights", "cfdiff/weights"),
        (".toml", ROOT / "configs", "cfdiff/_bundled/configs"),
        (".npz", ROOT / "datasets", "cfdiff/_bundled/datasets"),
    ):
        there = {f"{target}/{path.relative_to(source).as_posix()}" for path in source.rglob(f"*{suffix}")}
        assert there and there <= names


def test_the_installed_package_is_the_wheel_and_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    print_paths = "import cfdiff, sys; print(cfdiff.__file__, *sys.path, sep='\\n')"
    module, *searched = _run(installed / "python", "-c", print_paths, cwd=tmp_path).splitlines()
    assert Path(module).is_relative_to(installed.parent)
    assert str(ROOT) not in searched


def test_the_installed_program_lists_the_bundled_data_from_any_folder(installed: Path, tmp_path: Path) -> None:
    listed = _run(installed / "cfdiff", "data", "ls", "--json", cwd=tmp_path)
    assert "malaria-cells" in listed and "pneumoniamnist" in listed


def test_the_installed_program_translates_bundled_cells_from_any_folder(installed: Path, tmp_path: Path) -> None:
    command = ["translate", "--from", "negative", "--to", "positive", "--limit", "2", "--out", "run.h5"]
    _run(installed / "cfdiff", *command, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]
    with h5py.File(tmp_path / "run.h5") as file:
        assert file.attrs["complete"] and file.attrs["format"] == "cfdiff"
        source, after = file["source"][:], file["counterfactual"][:]
        assert source.shape == after.shape == (2, 48, 48, 1) and source.dtype == np.uint8
        assert (source != after).any()
        assert file["prob/judge"].shape == (2, 2, 2)
        assert str(tmp_path) not in str(dict(file.attrs))
