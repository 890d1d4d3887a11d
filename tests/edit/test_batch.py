from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cfdiff.data.open import open_source
from cfdiff.data.source import Source
from cfdiff.edit import batch
from cfdiff.edit.batch import BatchSize, Work, batch_size, bytes_an_image, found
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.roles import load_cast
from cfdiff.edit.settings import EditSettings
from cfdiff.engine.tiles import Tiles

GB = 10**9


@pytest.fixture
def source(toy: Any) -> Source:
    return open_source(str(toy.data))


@pytest.fixture
def settings(toy: Any) -> EditSettings:
    return EditSettings(weights=str(toy.weights), device="cpu", steps=3, depth=0.4, threads=1)


@pytest.fixture
def cast(toy: Any, source: Source, settings: EditSettings) -> Cast:
    return load_cast(settings, str(toy.data), source)


class Device:
    """A GPU in the place of the CPU, with `free` bytes: an edit of n images takes `once` + n `each` of them."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, free: int, once: int, each: int, machine: int = 64 * GB
    ) -> None:
        self.once, self.each, self.sizes = once, each, list[int]()
        self.there = {"cpu": free}
        monkeypatch.setattr(batch, "_free_on", lambda device: free)
        monkeypatch.setattr(batch, "free_memory", lambda device: machine)
        edit = Editor.edit

        def noted(editor: Editor, images: Any, *given: Any) -> Any:
            self.sizes.append(len(images))
            return edit(editor, images, *given)

        monkeypatch.setattr(Editor, "edit", noted)

    def __call__(self, device: torch.device, work: Callable[[], object]) -> int:
        work()
        return self.once + self.sizes[-1] * self.each


def test_an_image_takes_what_two_batches_differ_by_and_the_path(
    source: Source, cast: Cast, settings: EditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(monkeypatch, GB, once=5_000_000, each=3_000_000)
    size = math.prod(source.shape) * 4
    for steps in (3, 9):
        s = settings.model_copy(update={"steps": steps})
        assert bytes_an_image(s, cast, Work(source, 1, None, 100), device) == 3_000_000 + 2 * steps * size + 8 * size
    assert set(device.sizes) == set(batch.TRIED)


@pytest.mark.parametrize(
    ("free", "images", "number", "why"),
    [
        (0.4 * GB, 10_000, 64, "free on cpu"),  # 320 MB of images of some 3 MB
        (0.2 * GB, 10_000, 32, "free on cpu"),
        (9 * GB, 10_000, 256, "more at once are no faster"),
        (9 * GB, 100, 128, "it holds all 100 images"),
        (9 * GB, 128, 128, "it holds all 128 images"),
        (1, 100, 1, "free on cpu"),
    ],
)
def test_the_largest_power_of_two_that_fits_holds_or_gains(
    source: Source,
    cast: Cast,
    settings: EditSettings,
    monkeypatch: pytest.MonkeyPatch,
    free: float,
    images: int,
    number: int,
    why: str,
) -> None:
    device = Device(monkeypatch, int(free), once=0, each=3_000_000)
    chosen = found(settings, cast, Work(source, 1, None, images), device)
    assert chosen.number == number and chosen.found and chosen.said is not None
    assert chosen.said.startswith(f"Batch size {number}: ") and why in chosen.said


def test_processes_that_share_the_images_each_get_some(
    source: Source, cast: Cast, settings: EditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(monkeypatch, 9 * GB, once=0, each=3_000_000)
    chosen = found(settings, cast, Work(source, 1, None, 100, processes=10), device)
    assert (chosen.number, chosen.why) == (16, "it holds all 10 images of a process")


def test_the_images_must_fit_the_machine_beside_the_device(
    source: Source, cast: Cast, settings: EditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = math.prod(source.shape) * batch.STORED
    device = Device(monkeypatch, 9 * GB, once=0, each=3_000_000, machine=20 * kept)
    chosen = found(settings, cast, Work(source, 1, None, 1000), device)
    assert chosen.number == 16 and chosen.why is not None and chosen.why.endswith("free on this machine")
    assert found(settings, cast, Work(source, 1, None, 1000, 2, 2), device).number == 8


def test_a_device_that_cannot_hold_the_trial_gets_one_image_at_a_time(
    source: Source, cast: Cast, settings: EditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Device(monkeypatch, GB, once=0, each=1, machine=64 * GB)

    def full(device: torch.device, work: Callable[[], object]) -> int:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    assert found(settings, cast, Work(source, 1, None, 1000), full).number == 1

    def wrong(device: torch.device, work: Callable[[], object]) -> int:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        found(settings, cast, Work(source, 1, None, 1000), wrong)


def enlarged(source: Source, high: int, wide: int) -> Source:
    height, width, channels = source.shape
    return replace(
        source,
        shape=(high * height, wide * width, channels),
        reader=lambda rows: source.reader(rows).repeat(high, 1).repeat(wide, 2),
    )


def test_larger_images_are_tried_by_a_tile(
    source: Source, cast: Cast, settings: EditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    height = source.shape[0]
    large = enlarged(source, 3, 2)
    device = Device(monkeypatch, GB, once=0, each=3_000_000)
    size = math.prod(source.shape) * 4
    work = Work(large, 1, Tiles(height, 0.25), 1000)
    assert bytes_an_image(settings, cast, work, device) == 3_000_000 + 2 * 3 * size + 8 * size


def test_a_few_large_images_have_as_many_tiles_at_once_as_fit(
    source: Source, cast: Cast, settings: EditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    height = source.shape[0]
    large = enlarged(source, 8, 8)
    device = Device(monkeypatch, 9 * GB, once=0, each=3_000_000)
    work = Work(large, 1, Tiles(height, 0.25), 1)
    assert work.units == 11 * 11 and found(settings, cast, work, device).number == 128


def test_a_cpu_keeps_the_usual_number_unless_its_memory_is_short(
    source: Source, cast: Cast, settings: EditSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(source, 1, None, 3)
    each = math.prod(source.shape[:2]) * batch.PIXEL
    for free, number in ((64 * GB, 32), (None, 32), (32 / 0.8 * each - 1, 16), (each, 1)):
        monkeypatch.setattr(batch, "free_memory", lambda device, free=free: free)
        chosen = found(settings, cast, work)
        assert chosen.number == number and chosen.found
        assert (chosen.said is None) == (number == 32)


def test_a_number_that_is_asked_for_is_taken_and_one_that_is_stated_is_not_sought(
    cast: Cast, settings: EditSettings, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, out = Work(source, 1, None, 3), tmp_path / "run.h5"
    given = settings.model_copy(update={"batch_size": 5})
    assert batch_size(given, cast, work, out, {}, False) == BatchSize(5)
    monkeypatch.setattr(batch, "found", lambda *given: pytest.fail("it was sought"))
    monkeypatch.setattr(batch, "stated_batch", lambda *given: 7)
    assert batch_size(settings, cast, work, out, {}, False) == BatchSize(7, True, batch.STATED)
