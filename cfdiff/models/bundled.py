"""The weights that travel with cfdiff: one folder a data set, one file a role."""

from __future__ import annotations

from pathlib import Path

from cfdiff.errors import UserError

WEIGHTS = Path(__file__).parent.parent / "weights"
ROLES = ("diffusion", "guide", "checker", "judge")


def role_file(folder: Path, role: str) -> Path | None:
    """The file of a role: FOLDER/ROLE.safetensors, or FOLDER/ROLE/model.safetensors as a training writes it."""
    paths = (folder / f"{role}.safetensors", folder / role / "model.safetensors")
    return next((path for path in paths if path.is_file()), None)


def weights_file(dataset: str, role: str) -> Path:
    """The bundled model file of `role` (diffusion, guide, checker, judge) for a bundled data set."""
    path = role_file(WEIGHTS / dataset, role)
    if path is None:
        known = sorted(p.name for p in WEIGHTS.iterdir() if p.is_dir()) if WEIGHTS.exists() else []
        raise UserError(
            f"cfdiff ships no {role} for {dataset!r} (it ships weights for: {', '.join(known) or 'nothing'}): "
            "train one, and give --weights the folder that holds it."
        )
    return path
