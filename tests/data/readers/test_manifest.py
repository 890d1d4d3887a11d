from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfdiff.data import open_source
from cfdiff.errors import UserError

ROWS = """path,label,group,slide,split,mask,id
cells/healthy/0.png,healthy,p1,s1,train,,a
cells/healthy/1.png,healthy,p1,s2,test,,b
cells/diseased/3.png,diseased,p2,s3,test,masks/3.png,c
"""


def write(folder: Path, text: str) -> Path:
    path = folder.parent / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_gives_labels_groups_splits_ids_and_masks(folder: Path, pixels: np.ndarray) -> None:
    (folder.parent / "masks").mkdir()
    Image.fromarray((pixels[3] > 99).astype(np.uint8)).save(folder.parent / "masks" / "3.png")
    source = open_source(write(folder, ROWS), split="test")
    assert source.ids.tolist() == ["b", "c"]
    assert source.labels.tolist() == [0, 1]
    assert source.groups.tolist() == ["p1", "p2"]
    assert open_source(write(folder, ROWS), group_key="slide").groups.tolist() == ["s1", "s2", "s3"]
    np.testing.assert_array_equal(source.read([1])[0, ..., 0], pixels[3])
    masks = source.read_masks([0, 1])
    assert not masks[0].any()
    np.testing.assert_array_equal(masks[1], pixels[3] > 99)


def test_without_an_id_column_the_relative_path_is_the_id(folder: Path) -> None:
    rows = f"path,label\ncells/healthy/0.png,healthy\n{folder / 'diseased' / '3.png'},diseased\n"
    assert open_source(write(folder, rows)).ids.tolist() == ["cells/healthy/0.png", "cells/diseased/3.png"]


def test_a_spreadsheets_byte_order_mark_and_blanks_do_no_harm(folder: Path) -> None:
    source = open_source(write(folder, "\ufeffpath, label\ncells/healthy/0.png , healthy\n\n"))
    assert source.ids.tolist() == ["cells/healthy/0.png"]
    assert source.labels.tolist() == [0]


def test_a_mask_of_another_size_than_its_image_is_an_error(folder: Path) -> None:
    (folder.parent / "masks").mkdir()
    Image.fromarray(np.ones((2, 2), np.uint8)).save(folder.parent / "masks" / "3.png")
    with pytest.raises(UserError, match=r"mask 3.png is 2x2 but its image is 5x7"):
        open_source(write(folder, ROWS)).read_masks([2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,x\n", "no column 'path' but file, label"),
        ("path,class\na.png,x\n", "no column 'label' but path, class"),
        ("path;label\ncells/healthy/0.png;x\n", "parted by semicolons"),
        ("path\tlabel\ncells/healthy/0.png\tx\n", "parted by tabs"),
        ("path,label,label\ncells/healthy/0.png,a,b\n", "column 'label' more than once"),
        ('path,label,patient\ncells/healthy/0.png,a,"P1\ncells/healthy/1.png,b,"P2"\n', "in line 3 .* quotes"),
        ("path,label\ncells/healthy/0.png,a\0\n", "has a NUL in it"),
        ("path,label,id\ncells/healthy/0.png,neg,\n", "an empty id, that of image 1"),
        ("<html></html>", "is no CSV but a web page"),
        ("path,label\n", "lists no images"),
        ("path,label\ncells/healthy/0.png,\n", "no label in row 2"),
        ("path,label\ncells/healthy/0.png,a,b\n", "3 fields in row 2 but 2 columns"),
        (
            "path,label\ncells/healthy/0.png,neg\nnot/there.png,pos\n",
            "1 file that does not exist, the first is 'not/there.png' in row 3",
        ),
        ("path,label\n\n\ncells/healthy/0.png,neg\n\ncells/healthy/1.png,\n", "no label in row 6"),
        ("path,label\n\ncells/healthy/0.png\n", "1 fields in row 3 but 2 columns"),
        ("# cells\npath,label\n", "2 fields in row 2 but 1 columns: put commas in quotes, and name all columns"),
        ("path,label\ncells\\healthy\\0.png,neg\n", r"write / between folders"),
        ("path,label\nhttps://a.b/0.png,neg\n", "'https://a.b/0.png' in row 2: addresses are not fetched"),
        (
            "path,label,mask\ncells/healthy/0.png,neg,m/0.png\n",
            "lists 1 mask that does not exist, the first is 'm/0.png'",
        ),
        (
            "path,label\ncells/healthy/0.png,neg\ncells/healthy/0.png,pos\n",
            "id 'cells/healthy/0.png' more than once",
        ),
    ],
)
def test_a_faulty_manifest_is_one_clear_error(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(write(folder, text))


def test_what_has_no_group_stands_for_itself_and_that_is_said(folder: Path) -> None:
    rows = "".join(f"cells/healthy/{i}.png,{'ab'[i % 2]},{'' if i < 2 else 'P'}\n" for i in range(3)) + " , , \n"
    source = open_source(write(folder, "path,label,patient\n" + rows), negative="a")
    assert source.groups is not None
    assert source.groups.tolist() == ["cells/healthy/0.png", "cells/healthy/1.png", "P"]
    assert any(note.startswith("2 images have no 'patient'") for note in source.notes)


def test_a_name_in_another_form_of_unicode_is_said(folder: Path) -> None:
    """As a table has it that was written on another system than the files."""
    (folder / "healthy/0.png").rename(folder / "healthy/\u00e4.png")
    with pytest.raises(UserError, match="accents are stored in another form of Unicode"):
        open_source(write(folder, "path,label\ncells/healthy/a\u0308.png,neg\n"))


@pytest.mark.parametrize("missing", ["NA", "N/A", "<NA>", "NaT", "None", "NULL", "nan"])
def test_what_programs_write_for_no_group_is_no_group(folder: Path, missing: str) -> None:
    rows = "".join(f"cells/healthy/{i}.png,{'ab'[i % 2]},{missing if i < 2 else 'P'}\n" for i in range(3))
    source = open_source(write(folder, "path,label,patient\n" + rows), negative="a")
    assert source.groups is not None
    assert source.groups.tolist() == ["cells/healthy/0.png", "cells/healthy/1.png", "P"]


def test_a_manifest_in_another_encoding_is_one_clear_error(folder: Path) -> None:
    path = write(folder, "")
    path.write_bytes("path,label\nä.png,x\n".encode("utf-16"))
    with pytest.raises(UserError, match="not a readable CSV in UTF-8"):
        open_source(path)
