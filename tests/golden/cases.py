"""Small runs on the bundled cells and weights whose outputs must not change: what they are, and how they are written.

    python tests/golden/cases.py      # writes golden.npz anew: only where outputs are meant to change, and said why

golden.npz was written by the code before the packages were rebuilt (commit b8c0cd8).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np

from cfdiff.cli.app import app
from cfdiff.models.bundled import WEIGHTS

HERE = Path(__file__).parent
FILE = HERE / "golden.npz"
MODELS = ("diffusion", "guide", "checker", "judge")
COMMON = ["--device", "cpu", "--threads", "1", "--trim", "0", "--no-early"]  # neither was there when it was written
CASES = {
    "to-positive": "translate --from negative --limit 6",
    "to-negative": "translate --from positive --limit 6",
    "dpm-solver": "translate --from negative --limit 3 --solver dpm++ --steps 8 --spacing logsnr",
    "ddpm-mask": "translate --from positive --limit 3 --solver ddpm --mask auto --retries 0 --steps 6",
    "fixed-point": "translate --from negative --limit 3 --inversion fixed-point --steps 5 --guides noisy --clip",
    "sdedit": "translate --from positive --limit 3 --inversion noise --plain --open-loop --guides clean --steps 6",
    "exact": "translate --from negative --limit 2 --steps 5 --exact --guides clean --retries 1",
    "bag": "bag --mix 0.3 --bag-size 10 --bags 1 --steps 6",
    "bag-joint": "bag --mix 0.5 --bag-size 10 --bags 1 --steps 6 --mode joint",
}
KEPT = ("id", "counterfactual", "guidance/retries", "guidance/depth", "guidance/network_calls", "guidance/guide_calls")
KEPT_OF_BAGS = ("instance/id", "row/edit", "row/label", "counterfactual", "edit/retries", "edit/network_calls")


def run(case: str, folder: Path) -> dict[str, np.ndarray]:
    """The data sets of one case's file that are compared."""
    out, weights = folder / f"{case}.h5", folder / "weights"
    weights.mkdir(exist_ok=True)
    for role in MODELS:  # those that there were: no verifier, and no recipe
        path = weights / f"{role}.safetensors"
        if not path.exists():
            path.symlink_to(WEIGHTS / "malaria-cells" / path.name)
    words = CASES[case].split()
    app([*words, *COMMON, "--weights", str(weights), "--out", str(out)], standalone_mode=False)
    with h5py.File(out) as file:
        names = KEPT_OF_BAGS if words[0] == "bag" else KEPT
        return {name: file[name].asstr()[:] if name.endswith("id") else file[name][:] for name in names}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        found = {case: run(case, Path(scratch)) for case in CASES}
    flat = {f"{case}/{name}": values for case, arrays in found.items() for name, values in arrays.items()}
    np.savez_compressed(FILE, **{key: v.astype(str) if v.dtype.kind == "O" else v for key, v in flat.items()})
