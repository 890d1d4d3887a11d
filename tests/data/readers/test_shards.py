from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cfdiff.cli.data import app
from cfdiff.data.fit import Fit
from cfdiff.data.open import open_source
from cfdiff.data.readers.tar_index import members
from cfdiff.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 10, 12, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "png")
    return out.getvalue()


def pack(path: Path, files: dict[str, Any], **how: Any) -> Path:
    """A .tar of files by name: bytes, text, or what becomes JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **how) as archive:
        for name, what in files.items():
            data = what if isinstance(what, bytes) else (what if isinstance(what, str) else json.dumps(what)).encode()
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1e9 + 0.5  # a fraction of a second makes pax headers
            archive.addfile(info, io.BytesIO(data))
    return path


def cell(i: int, **more: Any) -> dict[str, Any]:
    """The members of one image."""
    return {f"cells/{i}.png": png(IMAGES[i]), f"cells/{i}.cls": str(i % 2), **more}


@pytest.mark.parametrize("how", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_the_members_are_those_of_the_standard_library(tmp_path: Path, how: int) -> None:
    deep = "/".join(["folder-of-a-long-name"] * 7)
    names = ["a.png", f"{deep[:120]}/b.cls", *([] if how == tarfile.USTAR_FORMAT else ["größe.txt", f"{deep}/c.json"])]
    path = pack(tmp_path / "a.tar", {name: RNG.bytes(700 * i) for i, name in enumerate(names)}, format=how)
    with path.open("rb") as file, tarfile.open(path) as archive:
        for (name, place, size, first), info in zip(members(path, "a.tar"), archive, strict=True):
            assert (name, place, size) == (info.name, info.offset_data, info.size)
            file.seek(place)
            assert file.read(size).startswith(first) and len(first) == min(size, 512)


def test_images_classes_columns_and_masks_are_what_was_packed(tmp_path: Path) -> None:
    for shard, rows in {"train-0000": (0, 1, 2), "test-0001": (3, 4, 5)}.items():
        files: dict[str, Any] = {}
        for i in rows:
            mask = np.zeros((10, 12), np.uint8)
            mask[i] = 255
            said = {"patient": f"P{i // 2}", "age": 40 + i, "nested": {"no": 1}}
            files |= cell(i, **{f"cells/{i}.json": said, f"cells/{i}.txt": "a caption"})
            files |= {f"cells/{i}.mask.png": png(mask)} if i != 4 else {}
        pack(tmp_path / "d" / f"{shard}.tar", files)
    source = open_source(tmp_path / "d")
    order = [int(name.split("/")[1]) for name in source.ids]
    assert order == [3, 4, 5, 0, 1, 2] and (source.shape, source.dtype) == ((10, 12, 3), np.uint8)
    np.testing.assert_array_equal(source.read(np.arange(6)), IMAGES[order])
    assert source.labels.tolist() == [i % 2 for i in order] and source.groups is not None and source.splits is not None
    assert source.groups.tolist() == [f"P{i // 2}" for i in order]
    assert source.splits.tolist() == ["test"] * 3 + ["train"] * 3
    assert source.column("age").tolist() == [str(40 + i) for i in order] and "nested" not in source.columns
    masks = source.read_masks(np.arange(6))
    assert masks is not None and [np.flatnonzero(m.all(1)).tolist() for m in masks] == [[3], [], [5], [0], [1], [2]]
    assert any("6 .txt" in note for note in source.notes)
    before = source.fingerprint
    assert open_source(tmp_path / "d").fingerprint == before
    data = (tmp_path / "d" / "test-0001.tar").read_bytes()
    (tmp_path / "d" / "test-0001.tar").write_bytes(
        data.replace(png(IMAGES[3]), png(IMAGES[3] ^ 1)[: len(png(IMAGES[3]))])
    )
    assert open_source(tmp_path / "d").fingerprint != before


def test_names_that_shards_share_get_the_name_of_their_shard(tmp_path: Path) -> None:
    for shard in "ab":
        pack(tmp_path / f"{shard}.tar", {"0.png": png(IMAGES[0]), "0.cls": "0", "1.png": png(IMAGES[1]), "1.cls": "1"})
    assert open_source(tmp_path).ids.tolist() == ["a/0", "a/1", "b/0", "b/1"]
    assert open_source(tmp_path / "a.tar").ids.tolist() == ["0", "1"] and open_source(tmp_path).splits is None


def test_a_class_stands_in_the_json_too_and_none_is_needed_where_a_judge_labels(tmp_path: Path) -> None:
    words = {f"{i}.json": {"label": "sick" if i else "well", "split": "val"} for i in range(2)}
    files = {
        name: what for i in range(2) for name, what in ((f"{i}.png", png(IMAGES[i])), (f"{i}.json", words[f"{i}.json"]))
    }
    source = open_source(pack(tmp_path / "a.tar", files), negative="well")
    assert source.classes == ("well", "sick") and source.splits is not None and source.splits.tolist() == ["val"] * 2
    bare = pack(tmp_path / "bare.tar", {f"{i}.png": png(IMAGES[i]) for i in range(2)})
    assert len(open_source(bare, unlabelled=("no", "yes"), keep_other=True)) == 2
    with pytest.raises(UserError, match=r"0 in bare\.tar has no class: a shard says it in KEY\.cls"):
        open_source(bare)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.txt": "x"}, "holds no images"),
        ({**cell(0), "cells/0.jpg": png(IMAGES[0])}, "two images called 'cells/0'"),
        ({**cell(0), "cells/0.json": "{"}, "is no JSON: correct it"),
        ({**cell(0), "cells/0.json": "[1]"}, "no JSON object"),
        ({"x.1.png": png(IMAGES[0]), "x.1.cls": "0"}, r"no images, but 1 \.cls, .*no dot in KEY"),
        (
            {"a.png": png(IMAGES[0]), "b.png": png(IMAGES[1]), "a.cls": "0", "b.cls": "1"},
            "does not hold together what is called 'a'",
        ),
        ({"0.png": png(IMAGES[0]), "0.json": {"label": [0, 1]}}, r"0\.json in .* has several values as the class"),
        ({**cell(0), "cells/0.json": b"\xff"}, "no text in UTF-8"),
        ({**cell(0), "cells/0.cls": "x" * 70_000}, "65,536 are the most"),
        ({"0.png": b"no image", "0.cls": "0", **cell(1)}, "is no image"),
    ],
)
def test_what_is_wrong_in_a_shard_is_one_sentence(tmp_path: Path, files: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_source(pack(tmp_path / "a.tar", files))


def test_images_of_two_sizes_are_said_when_they_are_read_and_made_alike_by_convert(tmp_path: Path) -> None:
    files = {**cell(0), **cell(1), "cells/1.png": png(IMAGES[1, :8])}
    path = pack(tmp_path / "a.tar", files)
    with pytest.raises(
        UserError, match=r"cells/0 in a\.tar is 10x12 .* but cells/1 in a\.tar is 8x12 .* all must be alike"
    ):
        open_source(path).check()
    assert open_source(path, fit=Fit(8, 1)).read([0, 1]).shape == (2, 8, 8, 1)
    done = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "b.npz"), "--size", "8"])
    assert done.exit_code == 0 and open_source(tmp_path / "b.npz").shape == (8, 8, 3), done.output


def test_an_archive_that_is_cut_off_or_packed_says_so(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {**cell(0), **cell(1)})
    whole = path.read_bytes()
    for end in (700, 1200, 10 * 512):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match="truncated or corrupt"):
            open_source(path)
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        archive.add(__file__, "a.png")
    with pytest.raises(UserError, match=r"compressed \(gzip\).*unpack it"):
        open_source(tmp_path / "b.tar.gz")


def test_links_whose_bytes_lie_elsewhere_are_refused_and_folders_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    for i in (0, 1):
        (tmp_path / "cells" / f"{i}.png").write_bytes(png(IMAGES[i]))
        (tmp_path / "cells" / f"{i}.cls").write_text(str(i))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "cells", "./cells")
    assert sorted(open_source(tmp_path / "a.tar").ids) == ["cells/0", "cells/1"]
    (tmp_path / "cells" / "2.png").hardlink_to(tmp_path / "cells" / "1.png")
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(tmp_path / "cells", "cells")
    with pytest.raises(UserError, match=r"cells/\d\.png in b\.tar is a link .* pack it anew"):
        open_source(tmp_path / "b.tar")


def test_booleans_of_a_json_are_0_and_1_as_those_of_arrays(tmp_path: Path) -> None:
    files = {}
    for i, label in enumerate((False, True)):
        files |= {f"{i}.png": png(IMAGES[i]), f"{i}.json": {"label": label}}
    source = open_source(pack(tmp_path / "a.tar", files))
    assert source.classes == ("0", "1") and source.labels.tolist() == [0, 1]
