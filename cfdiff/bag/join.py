"""cfdiff join of bags: the command itself does it, which takes what the shards have done and does what they left."""

from __future__ import annotations

import json
from pathlib import Path

from cfdiff.bag.settings import BagSettings
from cfdiff.bag.summary import BagSummary, summarise_bags
from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json
from cfdiff.join.settings import JoinSettings
from cfdiff.progress import Progress
from cfdiff.shard import ShardSummary
from cfdiff.store.bags import BagParts
from cfdiff.store.join import was_joined
from cfdiff.store.output import parts_dir
from cfdiff.store.shards import check_finished, read_manifests

_COMMAND = "command.json"


def keep_command(folder: Path, s: BagSettings) -> None:
    """Keep the settings, places and all, for the join.

    Raises:
        UserError: a model is no file, so that another process could not open it.
    """
    given = [role for role in ("checker", "verifier", "judge") if _in_memory(getattr(s, role))]
    if given:
        raise UserError(f"A shard is joined by another process, which needs the {given[0]} as a file: give its path.")
    told = s.model_dump(mode="json", by_alias=False, exclude={"shard", "workers", "ray", "json_", "force"})
    told = {name: value for name, value in told.items() if name in s.model_fields_set}
    with atomic(folder / _COMMAND) as scratch:
        scratch.write_text(json.dumps({"folder": str(Path.cwd()), "settings": told}, indent=1) + "\n")


def bag_shard(parts: BagParts, s: BagSettings) -> ShardSummary:
    """What a shard that is finished has done."""
    assert parts.shard is not None
    found = [manifest for manifest in read_manifests(parts.folder) if manifest.shard == parts.shard]
    return ShardSummary(parts.out.name, parts.shard, len(found[0].pieces) if found else 0, None)


def join_bags(s: JoinSettings, progress: Progress) -> BagSummary:
    """The bag file of all shards. What replaces instances that did not flip is edited now, by workers where asked.

    Raises:
        UserError: shards have not finished, which are named; or the data or models cannot be opened.
    """
    from cfdiff.bag.run import bag

    if was_joined(s.run, s.force):
        return summarise_bags(s.run)
    folder = parts_dir(s.run)
    check_finished(folder)
    try:
        told = parse_json((folder / _COMMAND).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{folder / _COMMAND} is gone or damaged: run a shard again.") from error
    if told["folder"] != str(Path.cwd()):
        raise UserError(f"The shards of bags were started in {told['folder']}: join them there, as they name files.")
    here = {"out": s.run, "workers": s.workers, "ray": s.ray, "device": s.device, "force": s.force}
    settings = BagSettings(**{**told["settings"], **here, **({} if s.threads is None else {"threads": s.threads})})
    summary = bag(settings, progress)
    assert isinstance(summary, BagSummary)
    return summary


def _in_memory(models: object) -> bool:
    several = models if isinstance(models, tuple) else () if models is None else (models,)
    return any(not isinstance(model, Path) for model in several)
