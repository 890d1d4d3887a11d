"""What a result or a bag file holds is held against its schema when it is opened: one sentence, whatever is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cfdiff.errors import UserError
from cfdiff.store import open_result
from cfdiff.store.bags import open_bags
from cfdiff.store.runs import is_bag_file, open_run
from cfdiff.store.schema import SCHEMA

Make = Callable[..., Path]


def changed(path: Path, change: Callable[[h5py.File], Any]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(name: str, values: Any, **how: Any) -> Callable[[h5py.File], None]:
    """Another data set in its place."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=values, **how)

    return change


def link(name: str, target: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        if target is None:
            file.create_group(name)
        else:
            file[name] = target

    return change


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if value is None:
            del file.attrs[name]
        else:
            file.attrs[name] = value

    return change


BAD_RESULTS = {
    "missing": (lambda f: f.__delitem__("label"), "lacks the data set 'label'"),
    "dangling": (link("target", h5py.SoftLink("/nowhere")), "'target' .* is a link to nothing"),
    "a dangling one that need not be there": (link("prob/judge", h5py.SoftLink("/nowhere")), "'prob/judge' .* nothing"),
    "a group": (link("source", None), "'source' .* no data set at all"),
    "of another file": (link("source", h5py.ExternalLink("other.h5", "source")), "not followed"),
    "short": (put("label", np.zeros(5, np.int8)), "'label' .* 5 entries on its axis N where 'id' has 12"),
    "empty": (put("id", np.array([], object), dtype=h5py.string_dtype()), "'id' .* is empty"),
    "scalar": (put("label", np.int8(0)), r"'label' .* shape \(\) instead of \(N\)"),
    "null": (put("label", h5py.Empty("i1")), r"'label' .* shape None"),
    "more axes": (put("prob/judge", np.zeros((12, 2), np.float32)), "'prob/judge' .* shape"),
    "three stages": (put("prob/judge", np.zeros((12, 3, 2), np.float32)), "3 entries on its axis 2 where 2 are needed"),
    "one class": (put("prob/judge", np.zeros((12, 2, 1), np.float32)), "1 entries on its axis K"),
    "text for numbers": (put("label", ["a"] * 12), "'label' .* type object instead of int8"),
    "numbers for text": (put("id", np.arange(12)), "'id' .* type int64 instead of string"),
    "wide": (put("source", np.zeros((12, 12, 12, 1), np.int32)), "'source' .* type int32 instead of image"),
    "other size": (put("difference", np.zeros((12, 9, 12, 1), np.float16)), "9 entries on its axis H where 'source'"),
    "five channels": (
        lambda f: [
            put(name, np.zeros((12, 12, 12, 5), dtype))(f)
            for name, dtype in (("source", "u1"), ("counterfactual", "u1"), ("difference", "f2"))
        ],
        "which images or probabilities cannot have",
    ),
    "no class": (put("target", np.full(12, 3, np.int8)), "'target' .* not from 0 to 1"),
    "nan": (put("prob/judge", np.full((12, 2, 2), np.nan, np.float32)), "'prob/judge' .* not from 0 to"),
    "no settings": (attribute("command", None), "lacks the attribute 'command'"),
    "broken settings": (attribute("command", '{"classes": ['), "has no table as attribute 'command'"),
    "deep settings": (attribute("command", "[" * 60_000), "has no table as attribute 'command'"),
    "settings of another kind": (attribute("command", "[1]"), "has no table as attribute 'command'"),
    "classes of another kind": (attribute("command", '{"classes": "ab"}'), "has classes in its settings"),
    "no models": (attribute("models", 5), "has no table of text as attribute 'models'"),
    "models without a hash": (attribute("models", '{"judge": 5}'), "has no table of text as attribute 'models'"),
    "no direction": (attribute("direction", None), "lacks the attribute 'direction'"),
    "bytes": (attribute("direction", np.void(b"\xff\x00")), "has no text as attribute 'direction'"),
    "no version": (attribute("format_version", "x"), "says no format version"),
    "a list as format": (attribute("format", np.arange(3)), "is not a cfdiff result"),
    "a list as complete": (attribute("complete", np.arange(3)), "is not complete"),
    "null version": (attribute("format_version", h5py.Empty("f4")), "says no format version"),
}


@pytest.mark.parametrize("how", list(BAD_RESULTS))
def test_a_result_that_does_not_hold_what_it_should_is_refused_when_it_is_opened(make_run: Make, how: str) -> None:
    change, message = BAD_RESULTS[how]
    path = changed(make_run(12, size=12), change)
    for opened in (open_result, lambda p: open_run(p).__enter__()):
        with pytest.raises(UserError, match=f"run.h5.*{message}" if message[0] != "'" else message) as said:
            opened(path)
        assert str(said.value).endswith(".") and "\n" not in str(said.value)


BAD_BAGS = {
    "missing": (lambda f: f.__delitem__("row/edit"), "lacks the data set 'row/edit'"),
    "offsets that fall": (put("bag/offset", np.array([0, 8, 4, 24])), "'bag/offset' .* does not rise from 0 to 24"),
    "offsets beyond": (put("mix/offset", np.array([0, 8, 16, 24, 32, 40, 99])), "'mix/offset' .* does not rise"),
    "an instance beyond": (put("row/instance", np.full(48, 24)), "'row/instance' .* beyond the 24"),
    "an edit beyond": (put("row/edit", np.full(48, 12)), "'row/edit' .* beyond the 12"),
    "an image beyond": (put("instance/source", np.full(24, -1)), "'instance/source' .* beyond the 24"),
    "instances of another bag": (put("row/instance", np.zeros(48, np.int64)), "rows of .* are not those of its bags"),
    "edited without an edit": (put("row/edit", np.full(48, -1)), "edited rows without an edit"),
    "not complete": (attribute("complete", False), "is not complete"),
    "too new": (attribute("format_version", 9), "newer than 1"),
}


@pytest.mark.parametrize("how", list(BAD_BAGS))
def test_a_bag_file_that_does_not_hold_what_it_should_is_refused_when_it_is_opened(make_bags: Make, how: str) -> None:
    change, message = BAD_BAGS[how]
    path = changed(make_bags(), change)
    assert is_bag_file(path), "what it says of itself is enough to be called one, so that the sentence is the right one"
    with pytest.raises(UserError, match=message):
        open_bags(path)
    with pytest.raises(UserError, match=message), open_run(path):
        pass


def test_a_damaged_image_is_one_sentence_when_it_is_read(make_run: Make) -> None:
    path = make_run(12, size=12)
    with h5py.File(path) as file:
        info = file["source"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[info.byte_offset : info.byte_offset + info.size] = b"\xff" * info.size
    path.write_bytes(content)
    with open_result(path) as result:
        assert result.source[2].shape == (12, 12, 1), "the others are as they were"
        with pytest.raises(
            UserError, match=r"The data set 'source' of .*run\.h5 .* run the command that made it again"
        ):
            result.source[3]


@pytest.mark.parametrize("name", ["difference", "saliency"])
def test_pixels_that_are_no_numbers_are_one_sentence_when_they_are_read(make_run: Make, name: str) -> None:
    values = np.zeros((12, 12, 12, 1)[: 4 if name == "difference" else 3], np.float16)
    values[3] = np.nan

    def change(file: h5py.File) -> None:
        file.pop(name, None)
        file[name] = values

    with open_result(changed(make_run(12, size=12), change)) as result:
        assert not result[name][2].any()
        with pytest.raises(UserError, match=f"'{name}' of .* has pixels that are no numbers"):
            result[name][2:5]


def test_a_setting_that_a_file_does_not_say_is_one_sentence(make_run: Make) -> None:
    path = changed(make_run(12, size=12), attribute("command", json.dumps({"steps": 3})))
    with open_result(path) as result, pytest.raises(UserError, match="does not say its 'classes'"):
        result.settings["classes"]


def test_what_may_be_written_may_be_read(make_run: Make, make_bags: Make) -> None:
    with open_result(make_run(12, size=12)) as result:
        assert set(result.names) < set(SCHEMA) and len(result) == 12
    with open_bags(make_bags()) as bags:
        assert len(bags) == 6
