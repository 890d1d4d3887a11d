"""What is stated of a run beside its parts, in settings.json: everything that a part of it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from cfdiff.files import parse_json
from cfdiff.store.result import encode_settings
from cfdiff.store.schema import RESULT, Layout
from cfdiff.version import __version__

SETTINGS = "settings.json"
BATCH = "batch_size"
"""The setting of that name, which is also the size of a part of images."""


def record_of(settings: dict[str, Any], n: int, part_size: int, layout: Layout = RESULT) -> dict[str, Any]:
    """What settings.json states of a run; its sha256 stands in every part."""
    return {
        "settings": json.loads(encode_settings(settings)),
        "images": n,
        "part size": part_size,
        "cfdiff version": __version__,
        "format version": layout.version,
    }


def is_record(found: object) -> TypeGuard[dict[str, Any]]:
    """Whether what was read from somewhere is a record, perhaps of another version, and no file of somebody else."""
    return isinstance(found, dict) and isinstance(found.get("settings"), dict) and "cfdiff version" in found


def as_text(record: dict[str, Any]) -> str:
    """The record as it is written."""
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


def run_digest(record: dict[str, Any]) -> bytes:
    """The sha256 of what settings.json states."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).digest()


def read_settings(record: Path) -> dict[str, Any]:
    """What is stated there; {} where it is damaged or gone."""
    try:
        found = parse_json(record.read_text())
    except (ValueError, FileNotFoundError):
        return {}
    return found if isinstance(found, dict) else {}


def changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Each setting that differs: its dotted name, its value there and its value now."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from changes(before, after, "" if key == "settings" and not prefix else f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key} was {json.dumps(before)}, now {json.dumps(after)}"


def is_batch(value: object) -> TypeGuard[int]:
    """Whether a value that was read from a file can be a batch size."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def other_batch(stated: dict[str, Any], record: dict[str, Any]) -> int | None:
    """The batch size of a stated record that says the same of everything else, but for the part size that follows from
    it; None where it is the same one, or more differs."""
    told = stated.get("settings")
    number = told.get(BATCH) if isinstance(told, dict) else None
    if not is_batch(number) or number == record["settings"].get(BATCH):
        return None
    mine = {**record, "settings": {**record["settings"], BATCH: number}}
    return number if stated in (mine, {**mine, "part size": number}) else None
