"""The weights that travel with cfdiff: one folder a data set, one file a part."""

from __future__ import annotations

from pathlib import Path

from cfdiff.errors import UserError

WEIGHTS = Path(__file__).parent.parent / "weights"
ROLES = ("diffusion", "guide", "checker", "judge")


def role_file(folder: Path, part: str) -> Path | None:
    """The file of a part: FOLDER/PART.safetensors, or FOLDER/PART/model.safetensors as a training writes it."""
    paths = (folder / f"{part}.safetensors", folder / part / "model.safetensors")
    return next((path for path in paths if path.is_file()), None)


def weights_file(dataset: str, part: str) -> Path:
    """The bundled model file of `part` (diffusion, guide, checker, judge) for a bundled data set."""
    path = role_file(WEIGHTS / dataset, part)
    if path is None:
        known = sorted(p.name for p in WEIGHTS.iterdir() if p.is_dir()) if WEIGHTS.exists() else []
        raise UserError(
            f"cfdiff ships no {part} for {dataset!r} (it ships weights for: {', '.join(known) or 'nothing'}): "
            "train one, and give --weights the folder that holds it."
        )
    return path
