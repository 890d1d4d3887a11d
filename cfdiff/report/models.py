"""What the models of a run say of themselves: their cards, where files with the run's own hashes are at hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfdiff.errors import UserError
from cfdiff.models.bundled import ROLES, WEIGHTS, role_file
from cfdiff.models.checkpoint import Card, read_card
from cfdiff.report.html.tables import plain

_ABSENT = [("card", "not at hand")]


@dataclass(frozen=True)
class Facts:
    """What is said of the model in a role: (name, value) lines of its card."""

    role: str
    sha256: str
    facts: list[tuple[str, str]]


def model_facts(hashes: dict[str, str], weights: str | None) -> list[Facts]:
    """Of each model, in the order diffusion, guide, checker, judge.

    Raises:
        UserError: `weights` is neither a folder nor a bundled name.
    """
    folders = [weights_folder(weights)] if weights else sorted(path for path in WEIGHTS.iterdir() if path.is_dir())
    models = []
    for role in (role for role in ROLES if role in hashes):
        at_hand = (path for folder in folders if (path := role_file(folder, role)) is not None)
        path = next((path for path in at_hand if _sha256(path) == hashes[role]), None)
        facts = _ABSENT if path is None else card_facts(read_card(path))
        models.append(Facts(role, hashes[role], facts))
    return models


def weights_folder(weights: str) -> Path:
    """The folder of --weights: a path, or a bundled name."""
    folder = Path(weights) if Path(weights).is_dir() else WEIGHTS / weights
    if not folder.is_dir():
        raise UserError(f"There are no weights at {weights!r}: give --weights a folder with the models of the run.")
    return folder


def card_facts(card: Card) -> list[tuple[str, str]]:
    """The lines of a card that a reader of results asks for."""
    data, training = card.data, card.training
    validation = training.get("validation", {})
    facts: list[tuple[str, Any]] = [
        ("kind", card.kind),
        ("architecture", card.config.get("arch", "U-Net")),
        ("condition", card.condition),
        ("schedule", card.schedule and {k: v for k, v in card.schedule.items() if not isinstance(v, list)}),
        ("trained on", data.get("name")),
        ("split", data.get("split")),
        ("images", data.get("images")),
        ("groups", len(data["groups"]) if data.get("groups") else None),
        ("steps", training.get("steps")),
        ("validation accuracy", validation.get("val_accuracy")),
        ("validation loss", validation.get("val_loss")),
        ("validation loss, told the class", validation.get("val_loss_told_class")),
    ]
    return [(name, plain(value)) for name, value in facts if value is not None]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
