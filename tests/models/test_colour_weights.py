"""The shipped models of the colour cells: they belong together, and their edits keep what they must."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cfdiff.models.bundled import WEIGHTS
from cfdiff.models.checkpoint import read_card
from cfdiff.settings import resolve
from cfdiff.store import open_result
from cfdiff.translate.run import translate
from cfdiff.translate.settings import TranslateSettings

pytest.importorskip("diffusers")
FOLDER = WEIGHTS / "malaria-cells-rgb"


def test_they_are_small_and_judge_and_guide_share_no_patient() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 40e6
    groups = {role: set(read_card(FOLDER / f"{role}.safetensors").data["groups"]) for role in ("guide", "judge")}
    assert all(groups.values()) and not groups["guide"] & groups["judge"]


@pytest.mark.slow
def test_an_edit_in_latents_changes_a_place_and_no_guidance_nothing(tmp_path: Path) -> None:
    common = {"data": "malaria-cells-rgb", "from": "positive", "limit": 1, "device": "cpu", "redraws": 1}
    edited = tmp_path / "edited.h5"
    translate(resolve(TranslateSettings, None, {**common, "out": edited}))
    with open_result(edited) as r:
        assert (r.settings["edit"], r.settings["control"]) == ("regenerate", "outline"), "the recipe of the weights"
        changed = (r.source[:] != r.counterfactual[:]).any(axis=-1)
        assert r.source.shape == (1, 128, 128, 3) and 0 < changed.mean() < 0.5
    plain = tmp_path / "plain.h5"
    translate(resolve(TranslateSettings, None, {**common, "scale": 0, "out": plain}))
    with open_result(plain) as r:
        assert np.array_equal(r.source[:], r.counterfactual[:]), "bit for bit"
