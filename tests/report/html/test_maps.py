from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cfdiff.bag.run import bag
from cfdiff.bag.settings import BagSettings
from cfdiff.report.html.maps import DOWN, EMPTY, LARGEST, UP, slide_maps
from cfdiff.report.run import report
from cfdiff.report.settings import ReportSettings
from cfdiff.store.bags import open_bags


@pytest.fixture(scope="module")
def tiles(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag file of the toys as tiles, three in a row and every second row empty."""
    folder = tmp_path_factory.mktemp("maps")
    with np.load(toy.data) as file:
        arrays = {key: file[key] for key in file.files}
    at = np.arange(len(arrays["images"]))
    np.savez(folder / "tiles.npz", **arrays, x=at % 3 * 16, y=at // 3 * 32, slide=np.full(len(at), "S"))
    common = {"weights": str(toy.weights), "device": "cpu", "batch_size": 8, "steps": 4, "depth": 0.4, "retries": 0}
    bag(BagSettings(data=str(folder / "tiles.npz"), out=folder / "b.h5", on_fail="keep", bags=2, mix="0.17", **common))
    return folder / "b.h5"


def test_a_bag_is_drawn_where_its_tiles_lie_with_the_edited_ones_framed(tiles: Path) -> None:
    with open_bags(tiles) as bags:
        one = slide_maps(bags, [0])[0]
        view, places = bags[0], bags.places(0)
    assert places is not None
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(one.png)))).astype(int)
    assert picture.shape == (3 * LARGEST, 3 * LARGEST, 3) and (one.width, one.height) == picture.shape[1::-1]
    assert (picture[LARGEST : 2 * LARGEST] == round(EMPTY * 255)).all()  # no tile lies there
    for k, (column, row) in enumerate(places.grid.tolist()):
        tile = picture[row * LARGEST : (row + 1) * LARGEST, column * LARGEST : (column + 1) * LARGEST]
        frame = UP if view.label[k] == 1 else DOWN
        assert (abs(tile[0] - np.rint(frame * 255)) <= 1).all() == bool(view.edited[k])
        middle = tile[8:-8, 8:-8].mean() / 255
        assert middle == pytest.approx(view.image[k][3:-3, 3:-3].mean() / 255, abs=0.05)
    assert f"{view.edited.sum()} of 6 edited" in one.words


def test_a_bag_is_drawn_on_its_slide_where_that_is_given(tiles: Path, tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    glass = np.random.default_rng(0).integers(0, 256, (400, 64, 3), dtype=np.uint8)
    (tmp_path / "scans").mkdir()
    tifffile.imwrite(tmp_path / "scans" / "S.tif", glass, tile=(64, 64))
    (tmp_path / "scans" / "other.tif").write_bytes(b"no slide, and of no bag")
    with open_bags(tiles) as bags:
        one, view, places = slide_maps(bags, [0], str(tmp_path / "scans"))[0], bags[0], bags.places(0)
    assert places is not None
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(one.png)))).astype(int)
    assert picture.shape == glass.shape
    covered = np.zeros(glass.shape[:2], bool)
    for k, (x, y) in enumerate(places.corners.tolist()):
        covered[y : y + 16, x : x + 16] = True
        frame = np.rint((UP if view.label[k] == 1 else DOWN) * 255)
        assert (abs(picture[y, x : x + 16] - frame) <= 1).all() == bool(view.edited[k])
        inner = view.image[k][4:-4, 4:-4].astype(int)
        assert abs(picture[y + 4 : y + 12, x + 4 : x + 12] - inner).max() <= 1
    assert (picture[~covered] == glass[~covered]).all()


def test_the_report_of_tiles_shows_their_maps(tiles: Path) -> None:
    page = report(ReportSettings(run=tiles, force=True)).page.read_text(encoding="utf-8")
    assert page.count('<figure class="map">') == 2 and "On the slide" in page
