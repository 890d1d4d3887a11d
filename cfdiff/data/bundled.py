"""The data sets that travel with cfdiff."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from cfdiff.errors import UserError

BUNDLED = ("malaria-cells", "malaria-cells-rgb", "pneumoniamnist", "deeppcb")


def datasets_root() -> Path:
    """The folder `datasets/`: inside an installed wheel, or at the top of the source tree."""
    package = Path(__file__).resolve().parent.parent
    in_wheel = package / "_bundled" / "datasets"
    return in_wheel if in_wheel.is_dir() else package.parent / "datasets"


def bundled_dir(name: str) -> Path:
    """The folder of a bundled data set (its .npz, README.md and card.json)."""
    folder = datasets_root() / name
    if name not in BUNDLED or not folder.is_dir():
        raise UserError(f"There is no bundled data set {name!r}: the bundled ones are {', '.join(BUNDLED)}.")
    return folder


def bundled_file(name: str) -> Path:
    """The .npz of a bundled data set."""
    return bundled_dir(name) / f"{name}.npz"


def builder(name: str) -> ModuleType:
    """The script `build.py` beside a bundled data set, which makes it from the originals, as a module."""
    spec = importlib.util.spec_from_file_location(f"build_{name}", bundled_dir(name) / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def card(name: str) -> dict[str, Any]:
    """The machine-readable data card of a bundled data set."""
    return json.loads((bundled_dir(name) / "card.json").read_text(encoding="utf-8"))


def card_sha256(data: str) -> str | None:
    """sha256 (hex) of the data card, `card.json`, of a bundled name, or in or beside a folder or file; else None."""
    place = bundled_dir(data) if data in BUNDLED else Path(data)
    found = (folder / "card.json" for folder in (place, place.parent))
    return next((hashlib.sha256(path.read_bytes()).hexdigest() for path in found if path.is_file()), None)
