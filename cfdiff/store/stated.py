"""The batch size that a run goes by: who finds one by itself (--batch-size auto) must not find another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cfdiff.errors import UserError
from cfdiff.files import parse_json
from cfdiff.store.bags import open_bags
from cfdiff.store.output import parts_dir
from cfdiff.store.record import BATCH, SETTINGS, is_batch
from cfdiff.store.result import encode_settings, open_result
from cfdiff.store.runs import is_bag_file


def stated_batch(out: Path, settings: dict[str, Any], force: bool = False) -> int | None:
    """The batch size of the unfinished run whose parts lie beside `out`, or of the result that is there; None where
    there is neither.

    With `force` only that of a run of the same `settings`, whatever their own batch size: another's is thrown away.
    """
    stated = _of_parts(out) or _of_result(out)
    if force and _without(stated) != _without(json.loads(encode_settings(settings))):
        return None
    found = stated.get(BATCH)
    return found if is_batch(found) else None


def _without(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != BATCH}


def _of_parts(out: Path) -> dict[str, Any]:
    try:
        found = parse_json((parts_dir(out) / SETTINGS).read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_result(out: Path) -> dict[str, Any]:
    if not out.is_file():
        return {}
    try:
        with open_bags(out) if is_bag_file(out) else open_result(out) as found:
            return found.settings
    except UserError:  # no result, or a damaged one: whoever writes there says so
        return {}
