from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cfdiff.translate.run import translate
from cfdiff.translate.summary import summarise


def test_the_summary_is_that_of_the_saved_values_of_all_images(toy: Any, tmp_path: Path) -> None:
    out = tmp_path / "run.h5"
    figures = translate(toy.settings(out, limit=12))
    assert summarise(out, batch=5) == {k: v for k, v in figures.items() if k != "seconds_per_image"}
    with h5py.File(out) as file:
        change = (file["counterfactual"][:].astype(float) - file["source"][:]) / 255
        assert figures["mean_abs_difference"] == pytest.approx(np.abs(change).mean(), rel=1e-5)
        assert figures["flipped_judge"] == file["flipped"][:].mean()
        assert figures["flipped_checker"] == (file["prob/checker"][:, 1, 1] > 0.5).mean()
        assert figures["target_before_judge"] == (file["prob/judge"][:, 0, 1] > 0.5).mean()
        assert figures["network_calls"] == file["guidance/network_calls"][:].mean()
    assert figures["images"] == 12 and figures["result"] == "run.h5"
