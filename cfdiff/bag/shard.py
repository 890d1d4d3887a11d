"""A shard of a bag run: what it leaves for the join, and what it says it has done."""

from __future__ import annotations

import json
from pathlib import Path

from cfdiff.bag.settings import BagSettings
from cfdiff.edit.batch import BatchSize
from cfdiff.errors import UserError
from cfdiff.files import atomic
from cfdiff.remote import secretive
from cfdiff.shard import ShardSummary
from cfdiff.store.bags import BagParts
from cfdiff.store.shards import COMMAND, read_manifests


def keep_command(folder: Path, s: BagSettings) -> None:
    """Keep the settings, places and all, for the join.

    Raises:
        UserError: a model is no file, so that another process could not open it; or the URL of the data has a secret.
    """
    given = [role for role in ("checker", "verifier", "judge") if _in_memory(getattr(s, role))]
    if given:
        raise UserError(f"A shard is joined by another process, which needs the {given[0]} as a file: give its path.")
    if secretive(s.data):
        raise UserError(
            "A shard of bags notes down its --data for the join, and no secret: leave that out of the URL, and "
            "give it in the environment, as its package says."
        )
    told = s.model_dump(mode="json", by_alias=False, exclude={"shard", "remote", "workers", "ray", "json_", "force"})
    told = {name: value for name, value in told.items() if name in s.model_fields_set}
    with atomic(folder / COMMAND) as scratch:
        scratch.write_text(json.dumps({"folder": str(Path.cwd()), "settings": told}, indent=1) + "\n")


def bag_shard(parts: BagParts, batch: BatchSize) -> ShardSummary:
    """What a shard that is finished has done."""
    assert parts.shard is not None
    at = None if parts.remote is None else parts.remote.name
    found = [manifest for manifest in read_manifests(parts.folder) if manifest.shard == parts.shard]
    pieces = len(found[0].pieces) if found else 0
    return ShardSummary(parts.out.name, parts.shard, pieces, None, batch.number, batch.why, at)


def _in_memory(models: object) -> bool:
    several = models if isinstance(models, tuple) else () if models is None else (models,)
    return any(not isinstance(model, Path) for model in several)
