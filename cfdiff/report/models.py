"""What the models of a run say of themselves: their cards, where files with the run's own hashes are at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfdiff.models.bundled import WEIGHTS, role_files, weights_folder
from cfdiff.models.checkpoint import Card, read_card
from cfdiff.report.html.tables import plain
from cfdiff.roles import DESCRIBED, JOINED, ROLES

_ABSENT = [("card", "not at hand")]


@dataclass(frozen=True)
class Facts:
    """What is said of the model in a role: (name, value) lines of its card."""

    role: str
    sha256: str
    facts: list[tuple[str, str]]


def model_facts(hashes: dict[str, str], weights: str | None, described: Mapping[str, Any]) -> list[Facts]:
    """Of each model, in the order of ROLES; `described` are the run's own words on classifiers of others, by role.

    Raises:
        UserError: `weights` is neither a folder nor a bundled name.
    """
    folders = [weights_folder(weights)] if weights else sorted(path for path in WEIGHTS.iterdir() if path.is_dir())
    models = []
    for role in (role for role in ROLES if role in hashes):
        at_hand = {_sha256(path): path for folder in reversed(folders) for path in role_files(folder, role)}
        foreign = iter(described.get(role, ()))
        for sha256 in hashes[role].split(JOINED):
            if DESCRIBED in sha256:
                facts = [(name, plain(value)) for name, value in next(foreign, {}).items()]
            else:
                facts = card_facts(read_card(at_hand[sha256])) if sha256 in at_hand else _ABSENT
            models.append(Facts(role, sha256, facts))
    return models


def card_facts(card: Card) -> list[tuple[str, str]]:
    """The lines of a card that a reader of results asks for."""
    data, training = card.data, card.training
    validation = training.get("validation", {})
    facts: list[tuple[str, Any]] = [
        ("kind", card.kind),
        ("architecture", card.config.get("arch", "U-Net")),
        ("condition", card.condition),
        ("space", None if card.space is None else card.space.get("name")),
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
