"""Which shards of a run are finished: each leaves a manifest beside the parts, and a join asks for all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json
from cfdiff.shard import Shard

ATTRIBUTES, COMMAND = "attributes.json", "command.json"
NEEDED = (ATTRIBUTES, COMMAND)
"""What shards leave for the join beside their manifests."""


@dataclass(frozen=True)
class Manifest:
    """A finished shard and the names of the pieces that it did or found done."""

    shard: Shard
    pieces: tuple[str, ...]


def write_manifest(folder: Path, shard: Shard, pieces: Sequence[str]) -> Path:
    """State in the folder of a run's parts that a shard is finished."""
    path = folder / f"shard-{shard.number:05d}-of-{shard.of:05d}.json"
    with atomic(path) as scratch:
        told = {"shard": shard.number, "of": shard.of, "pieces": list(pieces)}
        scratch.write_text(json.dumps(told, indent=1) + "\n")
    return path


def read_manifests(folder: Path) -> list[Manifest]:
    """The manifests in a folder of parts, by number; a damaged one counts as none."""
    found = []
    for path in sorted(folder.glob("shard-*-of-*.json")):
        try:
            told = parse_json(path.read_text())
            found.append(Manifest(Shard(int(told["shard"]), int(told["of"])), tuple(map(str, told["pieces"]))))
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            continue
    return found


def unfinished(manifests: Sequence[Manifest], of: int) -> list[Shard]:
    """The shards of an array of `of` that have left no manifest."""
    done = {manifest.shard for manifest in manifests}
    return [shard for number in range(1, of + 1) if (shard := Shard(number, of)) not in done]


def check_finished(folder: Path, missing: Sequence[int] | None = None, count: int = 0) -> None:
    """Raise UserError that names the shards which must run again before a run can be joined.

    Args:
        missing: places (from 0) of pieces, of `count` in order, that are not there; None where only the manifests tell,
            in which case every shard must have one.
    """
    manifests = read_manifests(folder)
    if not manifests:
        if missing is None or missing:
            some = "" if missing is None else f" and {len(missing):,} of {count:,} parts are missing"
            raise UserError(f"No shard has finished in {folder}{some}: run the command with --shard 1/N to N/N first.")
        return
    of = max(manifest.shard.of for manifest in manifests)
    if missing is None:
        wanted = unfinished(manifests, of)
        which = f"{len(wanted)} of {of} shards have not finished"
    else:
        wanted = sorted({Shard(1, of).of_piece(place, count) for place in missing}, key=lambda shard: shard.number)
        which = f"{len(missing):,} of {count:,} parts are missing, of {len(wanted)} of {of} shards"
    if wanted:
        told = "" if missing is None else _left_no_manifest(wanted, manifests)
        raise UserError(
            f"{folder} is not complete: {which}{told}; run the command again with --shard K/{of} for K = "
            f"{_numbers(wanted)}."
        )


def shard_of(folder: Path, place: int, count: int) -> Shard | None:
    """The shard that had piece `place` of `count`; None where no shard has left a manifest."""
    manifests = read_manifests(folder)
    return Shard(1, max(m.shard.of for m in manifests)).of_piece(place, count) if manifests else None


def _left_no_manifest(wanted: Sequence[Shard], manifests: Sequence[Manifest]) -> str:
    """Whether they were stopped, or finished and lost parts since."""
    done = {manifest.shard for manifest in manifests}
    lost = [shard for shard in wanted if shard in done]
    return f" ({len(lost)} of them had finished, so their parts were lost since)" if lost else ""


def _numbers(shards: Sequence[Shard]) -> str:
    """Numbers of shards, runs of neighbours joined, as Slurm's --array takes them: 3,7-9."""
    runs: list[list[int]] = []
    for number in sorted(shard.number for shard in shards):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def write_attributes_file(folder: Path, attributes: dict[str, Any]) -> None:
    """Keep the root attributes of a result for whoever joins it, which opens neither data nor models."""
    with atomic(folder / ATTRIBUTES) as scratch:
        scratch.write_text(json.dumps(attributes, sort_keys=True) + "\n")


def read_attributes_file(folder: Path) -> dict[str, Any]:
    """The root attributes that shard 1 has left.

    Raises:
        UserError: it has not.
    """
    try:
        found: dict[str, Any] = parse_json((folder / ATTRIBUTES).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"The first shard has not finished in {folder}: run it again, as --shard 1/N.") from error
    return found
