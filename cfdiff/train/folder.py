"""The folder of a training: model.safetensors, settings.json, log.jsonl, log.csv, samples, and state.pt to resume."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from cfdiff.errors import UserError
from cfdiff.files import atomic, guarded
from cfdiff.remote import shown
from cfdiff.store.output import own_folder
from cfdiff.store.owner import held
from cfdiff.train.settings import TrainSettings

FREE = frozenset(
    {
        "out",
        "force",
        "splits",
        "max_minutes",
        "device",
        "threads",
        "eval_every",
        "val_limit",
        "half",
        "calibrate",
        "intercept",
        "judge",
        "test_split",
        "json_",
    }
)
"""Settings that may change between the parts of one training; what `splits` says is in the fingerprint."""
FILES = (
    "pretrained",
    "splits",
    "schedule_of",
    "autoencoder",
    "features",
    "judge",
    "encoder",
    "labels",
    "captions",
    "diffusion",
    "old",
    "init",
    "image_text",
)
"""Settings that are files, of which the name is written down."""
LISTS = ("mixtures", "pairs")
"""Settings that are lists of files or words, of which the names are."""


class RunFolder:
    """`path` with everything that one training writes; each file is there whole or not at all."""

    def __init__(self, path: Path, s: TrainSettings, data_name: str, fingerprint: str) -> None:
        self.path, self.s, self.data_name, self.fingerprint = path, s, data_name, fingerprint

    @property
    def model(self) -> Path:
        """The averaged weights as of the last validation."""
        return self.path / "model.safetensors"

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved settings as they are written down: names of the data and of files, never where they lie."""
        told = self.s.model_dump(mode="json", exclude={"out", "force"}) | {"data": self.data_name}
        told = {k: Path(shown(str(v))).name if k in FILES and v else v for k, v in told.items()}
        return {k: [Path(one).name for one in v] if k in LISTS and v else v for k, v in told.items()}

    def check(self) -> None:
        """Make the folder; raise UserError where it cannot be written, or holds a model that would be lost."""
        own_folder(self.path)
        if self.model.exists() and not self._state.exists() and not self.s.force:
            raise UserError(
                f"{self.path} holds a model but no state to continue: give another --out, or --force to replace it."
            )

    @contextmanager
    def owned(self, main: bool = True) -> Iterator[None]:
        """Hold the folder while a training goes on; of several processes of one training only the `main` one does.

        Raises:
            UserError: another training is at work there.
        """
        with held(self.path, "training", "training") if main else nullcontext():
            yield

    def begin(self) -> None:
        """Clear what an earlier training left."""
        self._state.unlink(missing_ok=True)
        self._clean()
        self._write_log([])
        with atomic(self.path / "settings.json") as scratch:
            scratch.write_text(json.dumps(self.settings, indent=2) + "\n")

    def load(self) -> dict[str, Any] | None:
        """The state to continue from, or None to start.

        Raises:
            UserError: it is of other settings or other data, or cannot be read.
        """
        if not self._state.exists() or self.s.force:
            return None
        try:
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
            stored = json.loads(state["settings"])
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"{self._state} is damaged: copy it again, or --force to start anew.") from error
        stored["data"] = Path(stored["data"]).name
        now = self._identity()
        fields = type(self.s).model_fields  # a setting that the older cfdiff did not know had what is now the default
        other = [k for k in now if now[k] != stored.get(k, fields[k].get_default(call_default_factory=True))]
        if other:
            raise UserError(
                f"{self.path} holds a training with other settings ({', '.join(other)}): "
                "repeat those, give another --out, or --force to start anew."
            )
        if state.get("fingerprint", self.fingerprint) != self.fingerprint:
            raise UserError(
                f"{self.data_name} has changed since the training in {self.path} began: "
                "restore the data, give another --out, or --force to start anew."
            )
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state to continue from, to the end of it: torch would hide what stops it."""
        told = {**state, "settings": json.dumps(self._identity(), sort_keys=True), "fingerprint": self.fingerprint}
        with atomic(self._state) as scratch, guarded(scratch) as file:
            torch.save(told, file)

    def resume(self, step: int) -> None:
        """Forget what the log says of later steps: they are done again."""
        self._clean()
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        self._write_log([line for line in map(json.loads, lines) if line["step"] <= step])

    def log(self, figures: dict[str, Any]) -> None:
        """Add a line to log.jsonl, and the same to log.csv, where `a_by_level: {200: x}` is the column `a@200`."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        self._write_log([*map(json.loads, lines), figures])

    def _write_log(self, lines: list[dict[str, Any]]) -> None:
        with atomic(self._log) as scratch:
            scratch.write_text("".join(json.dumps(line) + "\n" for line in lines))
        rows = [flat(line) for line in lines]
        with atomic(self.path / "log.csv") as scratch, open(scratch, "w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(k for row in rows for k in row)), restval="")
            writer.writeheader()
            writer.writerows(rows)

    def _clean(self) -> None:
        """Remove what a kill during writing left."""
        for leftover in self.path.glob("*.tmp"):
            leftover.unlink()

    @property
    def _state(self) -> Path:
        return self.path / "state.pt"

    @property
    def _log(self) -> Path:
        return self.path / "log.jsonl"

    def _identity(self) -> dict[str, Any]:
        return {k: v for k, v in self.settings.items() if k not in FREE}


def flat(figures: dict[str, Any]) -> dict[str, Any]:
    """One level of keys: {"val_loss_by_level": {"0+": x}} becomes {"val_loss@0+": x}."""
    row: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, dict):
            row |= {f"{key.removesuffix('_by_level')}@{k}": v for k, v in value.items()}
        else:
            row[key] = value
    return row
