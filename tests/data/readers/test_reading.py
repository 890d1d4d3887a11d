from __future__ import annotations

from pathlib import Path

import pytest

from cfdiff.data import open_source
from cfdiff.data.readers.reading import Reading, Slices, Window, parse_reading
from cfdiff.errors import UserError


def test_every_key_is_read() -> None:
    assert parse_reading(None) == Reading() and parse_reading(None).said == ()
    assert parse_reading("window=40/400, axis=coronal").window == Window(40, 400, centred=True)
    assert parse_reading("window=-160:240").window == Window(-160, 240)
    assert parse_reading("window=1%:99.5%").window == Window(1, 99.5, percent=True)
    assert parse_reading("window=full").window == "full"
    assert parse_reading("slices=25%:75%,volume=2") == Reading(slices=Slices(25, 75, 1, True), volume=2)
    assert parse_reading("tile=256,um=native,tissue=.5") == Reading(tile=256, um=0.0, tissue=0.5)
    assert parse_reading("um=0.5,axis=axial").said == ("axis", "um")


def test_slices_are_those_of_python() -> None:
    for text, expected in (("2:5", [2, 3, 4]), (":3", [0, 1, 2]), ("::4", [0, 4, 8]), ("20%:50%", [2, 3, 4])):
        slices = parse_reading(f"slices={text}").slices
        assert slices is not None and list(slices.of(10)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "window", "window=", "window=5", "window=5/0", "window=9:1", "window=0%:9", "window=0%:101%", "zoom=2"]
    + ["axis=top", "slices=1", "slices=::0", "slices=5%:9", "volume=-1", "tile=0", "um=-1", "um=nan", "tissue=2"]
    + ["tile=64,tile=64", "window=-1e308:1e308", "window=1e39/5", "window=0/1e39"],
)
def test_what_is_no_reading_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--reading"):
        parse_reading(text)


def test_a_reading_of_data_that_has_no_such_files_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="window, which is for files of the kind NIfTI, DICOM, and there are none"):
        open_source(folder, reading="window=full")
    with pytest.raises(UserError, match="holds none"):
        open_source("pneumoniamnist", reading="window=full")
