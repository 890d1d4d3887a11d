from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfdiff.figures.bags import contact_sheet, dose_response, file_names
from cfdiff.store.bags import BagView, open_bags

CLASSES = ("no", "yes")


def view(n: int, dtype: str = "uint8", channels: int = 1) -> BagView:
    shape = (n, 8, 8, channels)
    source = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    source = source / np.float32(255) if dtype == "float32" else source
    edited = np.arange(n) < 2
    label = (np.arange(n) % 2).astype(np.int8)
    return BagView(
        name="P1",
        requested=0.3,
        wanted=2,
        planned=2 / n,
        before=0.5,
        achieved=0.4,
        achieved_by_labels=0.4,
        target=1,
        ids=np.array([f"i{k}" for k in range(n)]),
        label_before=1 - label,
        label=label,
        edited=edited,
        sham=np.zeros(n, bool),
        source=source,
        image=source.copy(),
        prob={},
    )


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize(("n", "dtype", "channels"), [(1, "uint8", 1), (7, "uint16", 3), (12, "float32", 1)])
def test_bags_of_any_size_and_type_are_drawn(tmp_path: Path, n: int, dtype: str, channels: int) -> None:
    out = contact_sheet(view(n, dtype, channels), CLASSES, tmp_path / "bag.png")
    assert pixels(out).shape[1] == 2100


def test_edited_instances_are_framed_and_others_are_not(tmp_path: Path) -> None:
    framed = pixels(contact_sheet(view(9), CLASSES, tmp_path / "a.png"))
    bare = replace(view(9), edited=np.zeros(9, bool))
    plain = pixels(contact_sheet(bare, CLASSES, tmp_path / "b.png"))

    def coloured(image: np.ndarray) -> int:
        return int((image.max(axis=2) - image.min(axis=2) > 60).sum())

    assert coloured(framed) > 2000 and coloured(plain) == 0


def test_a_large_bag_shows_its_edited_instances(tmp_path: Path) -> None:
    large = view(900)
    edited = np.arange(900) == 899
    first = pixels(contact_sheet(replace(large, edited=edited), CLASSES, tmp_path / "a.png"))
    assert (first.max(axis=2) - first.min(axis=2) > 60).any()


def test_the_dose_response_plot_is_drawn(tmp_path: Path) -> None:
    requested = np.repeat([0.0, 0.5, 1.0], 4)
    out = dose_response(requested, requested, requested, positive="yes", out=tmp_path / "dose.png")
    assert pixels(out).shape == (1050, 2100, 3)


def test_names_of_files_fit_any_system_and_stay_apart(make_bags: Callable[..., Path]) -> None:
    with open_bags(make_bags(name=lambda i: "\u764c/" * 200 + str(i))) as bags:
        names = file_names(bags)
    assert len(set(names)) == 6 and all(len(name.encode()) < 200 for name in names)
