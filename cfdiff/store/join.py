"""One result of the parts that shards have written: neither data nor models are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cfdiff.errors import UserError
from cfdiff.files import parse_json
from cfdiff.progress import Progress
from cfdiff.store.bags import is_bags_of, open_bags
from cfdiff.store.output import check_output, make_folder, parts_dir
from cfdiff.store.part_files import DamagedPart, PartFiles
from cfdiff.store.parts import RunParts
from cfdiff.store.record import BATCH, SETTINGS, changes, is_batch, read_settings, record_of
from cfdiff.store.remote import RemoteParts
from cfdiff.store.result import is_result_of, open_result
from cfdiff.store.runs import is_bag_file
from cfdiff.store.shards import check_finished, read_attributes_file, shard_of


def read_record(out: Path) -> dict[str, Any]:
    """What the shards of a result that is to be `out` state of their run (parts.record_of).

    Raises:
        UserError: no shard was there, or it was another version's.
    """
    folder = parts_dir(out)
    try:
        record: dict[str, Any] = parse_json((folder / SETTINGS).read_text())
        mine = record_of(record["settings"], record["images"], record["part size"])
    except FileNotFoundError as error:
        raise UserError(
            f"There is nothing to join for {out}, as {folder} holds no parts: give the --out of the shards."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / SETTINGS} is damaged: run a shard again.") from error
    if mine != record:
        raise UserError(
            f"The parts in {folder} were written by cfdiff {record.get('cfdiff version')}: join them with that "
            "version, or run the shards again."
        )
    return record


def fetch_shards(out: Path, url: str | None, force: bool) -> None:
    """Bring what shards have stated at an URL beside `out`, as if they had worked there; their parts are not read yet.

    Raises:
        UserError: there is nothing, or `out` or its folder of parts is of another run.
    """
    remote = RemoteParts.at(url)
    if remote is None:
        return
    folder = parts_dir(out)
    here = read_settings(folder / SETTINGS) if folder.exists() else {}
    record = remote.record(here or None)
    if record is None:
        if folder.exists() or was_joined(out, force):
            return
        raise UserError(f"There is nothing to join at {remote.name}: give the --remote of the shards.")
    if here and here != record:
        raise UserError(
            f"{folder} is of another run than {remote.name} ({'; '.join(changes(here, record))}): remove it, or "
            "give another name of a result."
        )
    made = not force and _is_of(out, record)
    if was_joined(out, force) and not made:
        raise UserError(
            f"{out} exists already, and is of another run than {remote.name}: give another name, or replace it "
            "with --force."
        )
    if made:
        parts = PartFiles(folder, b"", record["images"], record["part size"])
        if not remote.at_rest([parts.path(start).name for start, _ in parts.ranges]):
            raise UserError(
                f"{out} is made already, and {remote.name} has parts of shards that have not finished, as if they were "
                "at work once more: leave --remote out, or give another name of a result."
            )
        if not folder.exists():
            remote.clear()  # whoever joined it was killed before that
            return
    check_output(out, force, resumes=True)
    make_folder(folder)
    remote.fetch_records(folder)


def _is_of(out: Path, record: dict[str, Any]) -> bool:
    """Whether `out` is the finished file of the very run that is stated, by this version."""
    try:
        settings, n, size = record["settings"], record["images"], record["part size"]
        if record != record_of(settings, n, size) or not is_batch(size):
            return False
    except (KeyError, TypeError):
        return False
    if is_bag_file(out):
        return is_bags_of(out, settings)
    return size == settings.get(BATCH, size) and is_result_of(out, settings, n)


def was_joined(out: Path, force: bool) -> bool:
    """Whether a result lies at `out` and no parts beside it: whoever joined it was killed at the very end, or is asked
    again. With `force` it counts as another run's, which is to be replaced."""
    return not force and out.is_file() and not parts_dir(out).exists()


def command_of(out: Path, force: bool) -> Any:
    """The command whose shards `out` is to be of, or was joined of.

    Raises:
        UserError: no shard was there, or it was another version's; or `out` is no result.
    """
    return (_settings(out) if was_joined(out, force) else read_record(out)["settings"]).get("command")


def _settings(out: Path) -> dict[str, Any]:
    with open_bags(out) if is_bag_file(out) else open_result(out) as found:
        return found.settings


def join_shards(out: Path, force: bool, progress: Progress, volume: int | None = None, url: str | None = None) -> None:
    """Make `out` of the parts of all shards, and remove them; nothing is done where that is done.

    Parts that are not here are fetched from `url`.

    Raises:
        UserError: shards have not finished, are at work, or have left a damaged part; which, and what to do.
    """
    if was_joined(out, force):
        return
    record = read_record(out)
    remote = RemoteParts.at(url)
    with RunParts(out, record["settings"], record["images"], record["part size"], force=force, remote=remote) as run:
        if run.finished:
            return
        there = run.there()
        missing = [place for place, (start, _) in enumerate(run.ranges) if start not in there]
        check_finished(run.folder, missing, len(run.ranges))
        if remote is None:
            run.trust()
        else:
            places = {start: place for place, (start, _) in enumerate(run.ranges)}
            check_finished(run.folder, [places[start] for start, _ in run.missing(progress)], len(run.ranges))
        progress("joining", 0, run.n)
        try:
            run.join(read_attributes_file(run.folder), volume)
        except DamagedPart as error:
            place = [start for start, _ in run.ranges].index(error.start)
            raise DamagedPart(error.path, error.start, _again(run.folder, place, len(run.ranges))) from error


def _again(folder: Path, place: int, count: int) -> str:
    shard = shard_of(folder, place, count)
    return "run the command again" if shard is None else f"run its shard again, as --shard {shard}"
