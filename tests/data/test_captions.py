"""Captions that are made of images, and tables of captions that fit or do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cfdiff.cli.app import app
from cfdiff.data import open_source
from cfdiff.data.attributes import BUNDLED_WORDS, Words, attributes, dark_spot, describe, sentences
from cfdiff.data.bundled import BUNDLED
from cfdiff.data.captions import read_captions, write_captions
from cfdiff.data.source import Source
from cfdiff.errors import UserError


def disc(row: int | None = None, column: int = 24, radius: int = 3, size: int = 48) -> np.ndarray:
    """A bright disc on black, (size, size) in [0, 1], perhaps with a dark spot."""
    y, x = np.mgrid[:size, :size]
    image = np.where((y - 24) ** 2 + (x - 24) ** 2 < 22**2, 0.7, 0.0)
    if row is not None:
        image[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = 0.3
    return image


@pytest.fixture
def cells(tmp_path: Path) -> Source:
    """Five discs, with and without a spot, of four brightnesses."""
    images = [disc(), disc(24, 24), disc(10, 24, 4), disc(24, 38, 2), disc(24, 10, 5)]
    images = [image * shade for image, shade in zip(images, (1.2, 1.0, 0.8, 0.9, 0.7), strict=True)]
    np.savez(
        tmp_path / "cells.npz",
        images=np.round(255 * np.stack(images)).astype(np.uint8),
        labels=np.array(["healthy", "sick", "sick", "sick", "sick"]),
        stage=np.array(["", "ring", "ring+late", "late", ""]),
        id=np.array(list("abcde")),
    )
    return open_source(tmp_path / "cells.npz", negative="healthy", positive="sick")


def test_the_spot_of_a_cell_is_found_where_it_was_put() -> None:
    found = dark_spot(disc(12, 30), disc() > 0)
    rows, columns = np.nonzero(found)
    assert abs(rows.mean() - 12) < 0.6 and abs(columns.mean() - 30) < 0.6
    assert not dark_spot(disc(), disc() > 0).any() and not dark_spot(np.zeros((9, 9)), np.zeros((9, 9), bool)).any()


def test_what_is_said_is_what_is_there(cells: Source) -> None:
    found = attributes(cells, Words("cell", "dark", ("stage",)))
    assert found["size"].tolist() == ["", "middle-sized", "large", "small", "large"]
    assert found["place"].tolist() == ["", "centre", "top", "right", "left"]
    assert found["brightness"][0] == "very bright" and found["brightness"][4] == "very dark"
    said = sentences(found, Words("cell", "dark", ("stage",)))
    assert said[0] == "a healthy cell, very bright"
    assert said[2] == "a sick cell, very dark, with a ring, with a late, with a large dark spot at the top"


def test_masks_say_where_the_spot_is(tmp_path: Path) -> None:
    masks = np.zeros((2, 16, 16), bool)
    masks[1, 12:15, 6:9] = True
    images = np.full((2, 16, 16), 90, np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.array(["negative", "positive"]), masks=masks)
    said, _ = describe(open_source(tmp_path / "x.npz"), tmp_path / "x.npz", noun="tile")
    assert said[0].startswith("a negative tile, ") and said[1].endswith("with a large spot at the bottom")


@pytest.mark.parametrize(("rgb", "word"), [((200, 30, 30), "red"), ((60, 60, 200), "blue"), ((230, 120, 170), "pink")])
def test_colour_images_are_named_by_their_colour(tmp_path: Path, rgb: tuple[int, ...], word: str) -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[1, 2:6, 2:6] = rgb
    images[0] = 128
    np.savez(tmp_path / "x.npz", images=images, labels=np.array(["negative", "positive"]))
    found = attributes(open_source(tmp_path / "x.npz"), Words("cell"))
    assert found["colour"].tolist() == ["", word]
    said = sentences(found, Words("cell"))
    assert said == [f"a negative cell, {found['brightness'][0]}", f"a positive cell, {found['brightness'][1]} {word}"]


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_set_is_spoken_of_in_words_of_its_own(name: str) -> None:
    assert BUNDLED_WORDS[name].noun != Words().noun


def test_the_colour_cells_are_told_apart_by_brightness_colour_and_spot() -> None:
    source = open_source("malaria-cells-rgb", limit=96)
    said, found = describe(source, "malaria-cells-rgb")
    assert len(set(said)) > 30, "by class and colour alone there were 12"
    assert {"brightness", "colour", "size", "place"} <= set(found)
    assert any(" red, with a " in words and " dark spot at the " in words for words in said), said[:5]


def test_the_table_is_read_back_as_it_was_written(cells: Source, tmp_path: Path) -> None:
    said, found = describe(cells, "cells", "cell", "dark")
    path = write_captions(cells, said, found, tmp_path / "captions.csv")
    assert read_captions(path, cells) == dict(zip("abcde", said, strict=True))
    part = cells.select([3, 1])
    assert list(read_captions(path, part)) == ["d", "b"], "rows of other images are passed over"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,caption\na,x\n", "no column 'id' but name, caption: it needs id,caption"),
        ("id,text\na,x\n", "no column 'caption'"),
        ("id,caption\na,x\na,y\n", "the id 'a' more than once"),
        ("id,caption\na,x\nb,\n", "no caption for 'b'"),
        ("id,caption\na,x\nb,y\n", r"no caption for 3 of 5 images of cells.npz \(the first is 'c'\)"),
        ("id,caption\na,x,y\n", "3 fields in row 2 but 2 columns"),
        ("", "is empty"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(cells: Source, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "captions.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_captions(tmp_path / "captions.csv", cells)


def test_the_command_writes_one_row_an_image_and_refuses_to_overwrite(cells: Source, tmp_path: Path) -> None:
    out = tmp_path / "captions.csv"
    words = ["data", "captions", str(tmp_path / "cells.npz"), "--out", str(out), "--noun", "cell", "--spot", "dark"]
    words += ["--negative", "healthy", "--positive", "sick", "--columns", "stage"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "5 captions" in done.output, done.output
    assert out.read_text().splitlines()[0] == "id,caption,class,stage,brightness,size,place"
    assert len(out.read_text().splitlines()) == 6
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, UserError) and "exists already" in str(again.exception)
    (tmp_path / "splits.csv").write_text("id,split\n" + "".join(f"{name},train\n" for name in "abcd") + "e,test\n")
    told = ["--splits", str(tmp_path / "splits.csv"), "--split", "train", "--group-key", "stage", "--force"]
    done = CliRunner().invoke(app, [*words, *told])
    assert done.exit_code == 0 and "4 captions" in done.output, done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--columns colour",
            "cells.npz has no column 'colour', which --columns asks for: the known ones are stage, id.",
        ),
        ("--spot mask", "cells.npz has no masks, which --spot mask needs: use --spot dark or none."),
    ],
)
def test_what_the_data_lacks_is_said(cells: Source, tmp_path: Path, words: str, message: str) -> None:
    given = ["data", "captions", str(tmp_path / "cells.npz"), "--negative", "healthy", "--positive", "sick"]
    done = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "x.csv"), *words.split()])
    assert isinstance(done.exception, UserError) and str(done.exception) == message
