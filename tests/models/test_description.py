from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cfdiff.errors import UserError
from cfdiff.models.description import complete, description_file, read_description, write_description

WHOLE = {"classes": "0,1", "output": "logits", "normalisation": "imagenet", "channels": 3, "size": 224}


def test_all_that_is_missing_is_said_at_once_with_the_command_that_writes_it() -> None:
    with pytest.raises(UserError) as told:
        complete("mine.onnx", "mine.toml", {"channels": 3, "size": 224}, outputs=1000)
    said = str(told.value)
    assert "'mine.onnx' (1000 outputs) nobody says classes, output and normalisation" in said
    assert "cfdiff models describe mine.onnx --classes 0,1 --output logits --normalisation imagenet" in said


@pytest.mark.parametrize("name", WHOLE)
def test_nothing_of_it_has_a_default(name: str) -> None:
    with pytest.raises(UserError, match=f"nobody says {name}"):
        complete("m.pt", "m.toml", {key: value for key, value in WHOLE.items() if key != name})


@pytest.mark.parametrize(
    ("given", "groups"),
    [
        ("248,250", ((248,), (250,))),
        ([248, 250], ((248,), (250,))),
        ("3+5,7", ((3, 5), (7,))),
        ([[3, 5], [7]], ((3, 5), (7,))),
        (3, ((3,),)),
    ],
)
def test_classes_are_two_indices_or_groups_of_them(given: Any, groups: Any) -> None:
    assert complete("m", "m.toml", WHOLE | {"classes": given}).classes == groups


@pytest.mark.parametrize(
    ("given", "mean_std"),
    [
        ("unit", ((0.0,), (1.0,))),
        ("0.5,0.4,0.3/0.2", ((0.5, 0.4, 0.3), (0.2,))),
        ({"mean": [0.5], "std": [0.25]}, ((0.5,), (0.25,))),
    ],
)
def test_normalisation_is_a_name_or_numbers(given: Any, mean_std: Any) -> None:
    assert complete("m", "m.toml", WHOLE | {"normalisation": given}).mean_std == mean_std


@pytest.mark.parametrize(
    ("given", "size"), [(224, (224, 224)), ("224x200", (224, 200)), ([64, 48], (64, 48)), ("images", "images")]
)
def test_size_is_a_side_two_or_the_images_own(given: Any, size: Any) -> None:
    assert complete("m", "m.toml", WHOLE | {"size": given}).size == size


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": "cat,dog"}, "classes = 'cat,dog'"),
        ({"classes": "1,1"}, "no index may stand there twice"),
        ({"classes": "1,2,3"}, "counted from 0"),
        ({"classes": "-1,0"}, "counted from 0"),
        ({"output": "logitz"}, "choose of logits, probabilities"),
        ({"normalisation": "image-net"}, "imagenet, unit, symmetric, bytes"),
        ({"normalisation": {"mean": [123.7], "std": [58.0]}}, "divide them by 255"),
        ({"normalisation": "0.5/0"}, "std above 0"),
        ({"normalisation": "imagenet", "channels": 1}, "other channels than the 1"),
        ({"channels": 4}, "channels = 4"),
        ({"size": "big"}, '224x200, or "images"'),
        ({"size": 0}, '224x200, or "images"'),
        ({"names": "healthy"}, "names = 'healthy'"),
        ({"normalization": "unit"}, "did you mean normalisation?"),
    ],
)
def test_what_cannot_be_is_said_with_its_file_and_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as told:
        complete("m.pt", "m.toml", WHOLE | change)
    assert said in str(told.value) and "m.toml" in str(told.value) and "\n" not in str(told.value)


def test_a_written_description_is_read_as_it_was(tmp_path: Path) -> None:
    told = {**WHOLE, "normalisation": {"mean": [0.5], "std": [0.25]}, "names": 'a "b",c', "kwargs": {"depths": [1, 2]}}
    assert write_description(tmp_path / "mine.pt", told) == tmp_path / "mine.toml"
    assert read_description(tmp_path / "mine.pt") == told
    (tmp_path / "folder").mkdir()
    assert write_description(tmp_path / "folder", told) == tmp_path / "folder" / "cfdiff.toml"
    assert read_description(tmp_path / "folder") == told


def test_json_does_as_well_and_toml_wins(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(WHOLE))
    assert read_description(tmp_path / "mine.pt") == WHOLE
    write_description(tmp_path / "mine.pt", {"classes": "1,0"})
    assert description_file(tmp_path / "mine.pt").suffix == ".toml"
    assert read_description(tmp_path / "mine.pt") == {"classes": "1,0"}


@pytest.mark.parametrize("text", ["classes = ", "\xff\xfe"])
def test_a_description_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"mine.toml.*write it anew"):
        read_description(tmp_path / "mine.pt")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(UserError, match=r"other.json.*no table"):
        read_description(tmp_path / "other.pt")


def test_two_descriptions_have_one_hash_where_they_say_the_same() -> None:
    one = complete("m", "m.toml", WHOLE)
    assert one.sha256 == complete("m", "m.toml", WHOLE | {"classes": [0, 1], "size": "224x224"}).sha256
    assert one.sha256 != complete("m", "m.toml", WHOLE | {"classes": "1,0"}).sha256
