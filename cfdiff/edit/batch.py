"""How many images are edited at once, found by itself: --batch-size auto.

On a GPU the networks of the run are asked: two small batches are edited with a path of one step, and what one image
more takes at the peak is that of the second without that of the first, over the images between. Elsewhere it is
reckoned by the size of the images. What does not fit all the same is done in halves (memory.py).

The number is part of a run: the first process that states it decides for all that share the run or go on with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfdiff.data.limits import in_words
from cfdiff.data.source import Source
from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.edit.memory import free_memory, out_of_memory
from cfdiff.edit.settings import MOST_AT_ONCE, USUAL_BATCH, EditSettings
from cfdiff.engine.tiles import Tiles
from cfdiff.models.compiled import as_they_are
from cfdiff.store.stated import stated_batch

SHARE = 0.8
"""Of the free memory: what a peak leaves in pieces, and what other rungs take, is the rest."""
TRIED = (2, 4)
"""Images of the two batches that are measured."""
PIXEL = 4096
"""Bytes that a pixel takes on a CPU while its image is edited. The highest memory of a translation grew by 1,800 for
each pixel of the bundled gray cells and by 380 of the coloured ones; larger networks take more."""
STORED = 64
"""Bytes that a value of an image takes in the memory of the machine where it is edited elsewhere, or in tiles: as it is
read, edited, compared, kept and packed."""


@dataclass(frozen=True)
class BatchSize:
    """Images at once.

    Attributes:
        found: nobody asked for this number, so that another one may be agreed on.
        why: words that say where it comes from; None for a number that was asked for, or is the usual one.
    """

    number: int
    found: bool = False
    why: str | None = None

    @property
    def said(self) -> str | None:
        """The sentence for whoever watches; None where there is nothing to say."""
        return None if self.why is None else f"Batch size {self.number}: {self.why}."

    def agreed(self, number: int) -> BatchSize:
        """What the run states, which another process may have begun meanwhile."""
        return self if number == self.number else replace(self, number=number, why=STATED)


@dataclass(frozen=True)
class Work:
    """What is to be edited.

    Attributes:
        images: how many in all, by everybody.
        processes: how many share them, as far as that is known.
        here: how many of those share this machine's memory.
    """

    source: Source
    target: int
    tiles: Tiles | None
    images: int
    processes: int = 1
    here: int = 1

    @property
    def unit(self) -> tuple[int, int, int]:
        """(H, W, C) of what a network gets, of an image or a tile."""
        return self.source.shape if self.tiles is None else self.tiles.shape(self.source.shape)

    @property
    def units(self) -> int:
        """How many of those an image has."""
        return 1 if self.tiles is None else len(self.tiles.grid(*self.source.shape[:2]))


STATED = "as the run states it that is there"
Measure = Callable[[torch.device, Callable[[], object]], int]
"""(device, work) -> bytes at the peak of the work beyond what was taken before it."""


def batch_size(s: EditSettings, cast: Cast, work: Work, out: Path, settings: dict[str, Any], force: bool) -> BatchSize:
    """The batch size of a run into `out`: as asked for, as the run states it that lies there, or found now.

    `settings` are those that the run would state, whatever their batch size.
    """
    if s.batch_size != "auto":
        return BatchSize(s.batch_size)
    stated = stated_batch(out, settings, force)
    if stated is not None:
        return BatchSize(stated, True, None if stated == USUAL_BATCH else STATED)
    return found(s, cast, work)


def found(s: EditSettings, cast: Cast, work: Work, measure: Measure | None = None) -> BatchSize:
    """The batch size by the memory that is free now; `measure` asks another device than a GPU."""
    device, usual = cast.device, BatchSize(USUAL_BATCH, True)
    machine = free_memory(torch.device("cpu"))
    if device.type != "cuda" and measure is None:
        if device.type != "cpu" or machine is None:
            return usual
        return _by_size(work, machine) or usual
    free = _free_on(device)
    each = bytes_an_image(s, cast, work, measure or peak)
    most = MOST_AT_ONCE if free is None else math.floor(SHARE * free / max(each, 1))
    why = f"an image takes {in_words(each)} of the {in_words(free or 0)} that are free on {device}"
    if most >= MOST_AT_ONCE:
        most, why = MOST_AT_ONCE, f"{why}, and more at once are no faster"
    kept = math.prod(work.source.shape) * STORED
    if machine is not None and (fit := math.floor(SHARE * machine / (work.here * kept))) < most:
        most, why = fit, f"an image takes {in_words(kept)} of the {in_words(machine)} that are free on this machine"
    share = -(-work.images // work.processes)
    if (enough := _power_above(share * work.units)) < most:
        most, why = enough, f"it holds all {share:,} images" + (" of a process" if work.processes > 1 else "")
    return BatchSize(_power_below(most), True, why)


def bytes_an_image(s: EditSettings, cast: Cast, work: Work, measure: Measure) -> int:
    """What one image, or tile, more in a batch takes on the device."""
    few, more = TRIED
    s = s.for_target(work.target)
    images, masks = _some(s, work, more)
    # One step of the path takes what each of them takes; no checker ends it, so that every image is guided.
    short = {"steps": 1, "encode_per_step": 1, "retries": 0, "trim": 0.0, "closed_loop": False, "early": False}
    short |= {"redraw_steps": 1, "redraw_times": 1, "redraws": 1, "batch_size": more}
    editor = Editor(cast, s.model_copy(update=short))

    def edited(n: int) -> object:
        ids = [f"memory/{i}" for i in range(n)]
        return editor.edit(images[:n], ids, work.target, None if masks is None else masks[:n])

    try:
        with as_they_are():
            edited(few)  # what is made once, at the first call, is no image's
            first, second = (measure(cast.device, lambda n=n: edited(n)) for n in TRIED)  # type: ignore[misc]
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return max(1, free_memory(cast.device) or 1)  # one at a time
    height, width, channels = work.unit
    x = torch.zeros((1, channels, height, width), device=cast.device)
    with torch.no_grad():
        z = cast.space.encode(x)
    path = 2 * s.steps * s.encode_per_step * z.numel() * z.element_size()  # x and eps at every level
    looks = 8 * x.numel() * x.element_size()  # what trimming shows to who accepts
    # Where the allocator rounds, the difference can be too small: never less than half an image's share of the whole.
    return max((second - first) // (more - few), second // (2 * more)) + path + looks


def peak(device: torch.device, work: Callable[[], object]) -> int:
    """A `Measure` of a GPU of CUDA."""
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _free_on(device: torch.device) -> int | None:
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what this process holds and does not use is free to it
    return free_memory(device)


def _by_size(work: Work, free: int) -> BatchSize | None:
    """On a CPU; None where the memory is large enough for the usual batch."""
    each = max(math.prod(work.unit[:2]) * PIXEL, math.prod(work.source.shape) * STORED)
    most = math.floor(SHARE * free / (work.here * each))
    if most >= USUAL_BATCH:
        return None
    why = f"an image may take {in_words(each)} of the {in_words(free)} that are free"
    return BatchSize(_power_below(most), True, why)


def _some(s: EditSettings, work: Work, n: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (n, h, w, C) of the run, or their first tiles, and masks where the settings ask for them."""
    source, (height, width, _) = work.source, work.unit
    rows = np.arange(n) % len(source)
    images = source.read(rows)[:, :height, :width]
    asked = s.mask == "data" or s.lock[0] == "mask"
    masks = source.read_masks(rows) if asked else None
    return np.ascontiguousarray(images), None if masks is None else np.ascontiguousarray(masks[:, :height, :width])


def _power_below(most: int) -> int:
    """The largest power of two up to `most`; 1 at least."""
    return 1 << max(0, most.bit_length() - 1)


def _power_above(least: int) -> int:
    """The smallest power of two from `least` on."""
    return 1 << max(0, least - 1).bit_length()
