"""cfdiff bag: bags of a controlled mixture, into one HDF5 file."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfdiff.bag.export import check_export, export_bags
from cfdiff.bag.file import write_bag_file
from cfdiff.bag.instance import edit_instances
from cfdiff.bag.joint import edit_jointly
from cfdiff.bag.settings import BagSettings
from cfdiff.bag.setup import Setup, set_up
from cfdiff.bag.shard import bag_shard, keep_command
from cfdiff.bag.summary import BagSummary, summarise_bags
from cfdiff.edit.batch import BatchSize, Work, batch_size
from cfdiff.edit.tiling import tiles_of
from cfdiff.errors import UserError
from cfdiff.figures.bags import contact_sheets, dose_response
from cfdiff.progress import Progress, note
from cfdiff.shard import ShardSummary
from cfdiff.store.bags import BagParts, Bags, is_bags_of, open_bags
from cfdiff.store.output import check_output
from cfdiff.store.remote import RemoteParts
from cfdiff.workers.settings import sharing

DEFAULT_OUT = Path("runs") / "bags.h5"


def bag(s: BagSettings, progress: Progress | None = None) -> BagSummary | ShardSummary:
    """Run (or continue) a bag run; returns the summary of the finished file, or of the shard that was asked for.

    A file that these settings have made already is not made again where a preview or an export of it is asked for.

    Raises:
        UserError: data, models, settings, mixes or output are not usable; said before anything is computed.
    """
    out = s.out or DEFAULT_OUT
    reads = s.preview is not None or s.export is not None
    if s.out is not None and not (reads and out.is_file()):
        check_output(out, s.force, resumes=True)
    _check_preview(s.preview)
    if s.shard is not None and reads:
        raise UserError("A shard makes no --preview and no --export, as it has a share of the edits: leave them out.")
    remote = RemoteParts.at(s.remote)
    setup = set_up(s, out)
    batch = _batch_size(setup, out)
    setup = setup.at_once(batch.number)
    exporter = check_export(s, setup)
    if s.out is None:
        _make(out.parent, "--out")
    started = time.monotonic()
    if s.force or not (reads and is_bags_of(out, setup.settings)):
        with BagParts(
            out, setup.settings, force=s.force, shard=s.which_shard, remote=remote, adopts=batch.found
        ) as parts:
            batch = batch.agreed(parts.settings["batch_size"])
            setup = setup.at_once(batch.number)
            if setup.seen is not None:
                setup.seen.keep()
            if not parts.finished:
                if batch.said:
                    note(progress, batch.said)
                _compute(setup, parts, progress)
            if parts.shard is not None:
                return bag_shard(parts, batch)
    seconds = (time.monotonic() - started) / len(setup.goals)
    if exporter is not None:  # before the pictures, which may fail
        export_bags(s, out, exporter)
    if s.preview is not None:
        draw(out, s.preview)
    return replace(summarise_bags(out), seconds_per_bag=seconds, batch_size_because=batch.why)


def _batch_size(setup: Setup, out: Path) -> BatchSize:
    """Images at once. A joint bag is one piece of work however many of its images a network gets at once, so that
    nothing could be done in halves: of those it is the usual number."""
    s = setup.s
    if s.mode == "joint":
        return BatchSize(s.batch)
    edits = len(setup.source) if s.untouched == "sham" else sum(goal.edits for goal in setup.goals)
    work = Work(setup.source, 1, tiles_of(s), max(1, edits), *sharing(s))
    return batch_size(s, setup.cast, work, out, setup.settings, s.force)


def _compute(setup: Setup, parts: BagParts, progress: Progress | None) -> None:
    edit = edit_jointly if setup.s.mode == "joint" else edit_instances
    if parts.shard is not None:
        keep_command(parts.folder, setup.s)
    done = edit(setup, parts, progress)
    if done is not None:
        parts.finish(lambda path: write_bag_file(path, setup, done))


def draw(result: Path, folder: Path) -> list[Path]:
    """A contact sheet for each bag and mix and, where there are several mixes, the dose-response plot."""
    _make(folder, "--preview")
    with open_bags(result) as bags:
        classes = tuple(bags.settings["classes"])
        drawn = contact_sheets(bags, classes, folder)
        if len(np.unique(bags.read("mix/requested"))) > 1:
            drawn.append(dose_response(*dose(bags), positive=classes[1], out=folder / "dose-response.png"))
    return drawn


def _check_preview(folder: Path | None) -> None:
    if folder is not None and (folder.is_file() or not folder.resolve().parent.is_dir()):
        raise UserError(f"--preview cannot make the folder {folder}: name one in an existing folder.")


def _make(folder: Path, option: str) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder {folder} ({error.strerror}): choose another {option}.") from error


def dose(bags: Bags) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(J,) of every bag and mix: the requested mix, the achieved one, and the judge's mean probability of positive."""
    p = bags.read("prob/judge")[:, 1, 1]
    mean = np.array([p[bags.rows(j)].mean() for j in range(len(bags))])
    return bags.read("mix/requested"), bags.read("mix/achieved"), mean
