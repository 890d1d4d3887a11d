"""The log of a search, beside its config: every trial with its figures, from which a stopped search continues."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json
from cfdiff.tune.trial import Outcome, Trial


class TrialLog:
    """`OUT.trials.json`: the settings of the search and its finished trials."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.path = out.with_name(out.name + ".trials.json")
        self.settings: dict[str, Any] = json.loads(json.dumps(settings, sort_keys=True))

    def load(self, force: bool) -> list[Trial]:
        """The trials so far; none where there is no log, or with `force` where it is of another search.

        Raises:
            UserError: the log is of another search or damaged, and there is no `force`.
        """
        if not self.path.exists():
            return []
        try:
            stored = parse_json(self.path.read_text())
            before = dict(stored["settings"])
            trials = [_trial(line) for line in stored["trials"]] if before == self.settings else []
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if force:
                return []
            raise UserError(f"{self.path} is damaged: remove it, or --force to start anew.") from error
        if before == self.settings or force:
            return trials
        other = sorted(name for name in {*before, *self.settings} if before.get(name) != self.settings.get(name))
        raise UserError(
            f"{self.path} is of a search with other settings ({', '.join(other)}): "
            "repeat those, give another --out, or --force to start anew."
        )

    def save(self, trials: list[Trial]) -> None:
        """Replace the log."""
        with atomic(self.path) as scratch:
            text = {"settings": self.settings, "trials": [asdict(trial) for trial in trials]}
            scratch.write_text(json.dumps(text, indent=1) + "\n")


def _trial(line: dict[str, Any]) -> Trial:
    outcome = {name: Outcome(**{k: tuple(v) for k, v in o.items()}) for name, o in line["outcome"].items()}
    return Trial(**{**line, "outcome": outcome})
