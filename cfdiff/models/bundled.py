"""The weights that travel with cfdiff: one folder a data set, one file a part."""

from __future__ import annotations

from pathlib import Path

from cfdiff.errors import UserError

WEIGHTS = Path(__file__).parent.parent / "weights"
PARTS = ("diffusion", "guide", "checker", "judge")


def weights_file(dataset: str, part: str) -> Path:
    """The bundled model file of `part` (diffusion, guide, checker, judge) for a bundled data set."""
    path = WEIGHTS / dataset / f"{part}.safetensors"
    if not path.exists():
        known = sorted(p.name for p in WEIGHTS.iterdir() if p.is_dir()) if WEIGHTS.exists() else []
        raise UserError(
            f"cfdiff ships no {part} for {dataset!r} (it ships weights for: {', '.join(known) or 'nothing'}): "
            f"train one and name it with --{part}."
        )
    return path
