"""The weights that travel with cfdiff: one folder a data set, one file a role."""

from __future__ import annotations

from pathlib import Path

from cfdiff.errors import UserError
from cfdiff.roles import nth

WEIGHTS = Path(__file__).parent.parent / "weights"


def role_file(folder: Path, role: str) -> Path | None:
    """The file of a role: FOLDER/ROLE.safetensors, or FOLDER/ROLE/model.safetensors as a training writes it."""
    paths = (folder / f"{role}.safetensors", folder / role / "model.safetensors")
    return next((path for path in paths if path.is_file()), None)


def role_files(folder: Path, role: str) -> tuple[Path, ...]:
    """All files of a role: that of `role_file`, then those of ROLE-2, ROLE-3 and so on, up to the first gap."""
    found: list[Path] = []
    while (path := role_file(folder, nth(role, len(found)))) is not None:
        found.append(path)
    return tuple(found)


def named(path: Path) -> Path:
    """The file of a model: the path itself, or where nothing is there and it is the name of a bundled one, as
    malaria-cells/words, that."""
    if len(path.parts) != 2 or path.is_absolute() or path.exists():
        return path
    folder, role = path.parts
    return role_file(WEIGHTS / folder, role.removesuffix(".safetensors")) or path


def weights_folder(weights: str) -> Path:
    """The folder of --weights: a path, or the name of a bundled data set; UserError where there is none."""
    folder = Path(weights) if Path(weights).is_dir() else WEIGHTS / weights
    if not folder.is_dir():
        known = sorted(p.name for p in WEIGHTS.iterdir() if p.is_dir()) if WEIGHTS.exists() else []
        raise UserError(
            f"There is no folder {weights!r}, nor does cfdiff ship weights of that name (it ships some for: "
            f"{', '.join(known) or 'nothing'}): give --weights the folder that holds the models."
        )
    return folder
