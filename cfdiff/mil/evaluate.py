"""cfdiff mil evaluate: how good a bag model is on real bags."""

from __future__ import annotations

import json
from pathlib import Path

from cfdiff.errors import UserError
from cfdiff.files import atomic
from cfdiff.mil.answers import say
from cfdiff.mil.measure import Scores, figures
from cfdiff.mil.opened import open_model, thinned
from cfdiff.mil.result import MilEvaluation
from cfdiff.mil.settings import MilEvaluateSettings
from cfdiff.progress import Progress, silent


def mil_evaluate(s: MilEvaluateSettings, progress: Progress | None = None) -> MilEvaluation:
    """Ask the model about real bags of patients that it does not know; edited ones never take part.

    Raises:
        UserError: model, bags or output cannot be used as asked.
    """
    if s.out is not None and not s.out.resolve().parent.is_dir():
        raise UserError(f"--out cannot be written to {s.out}: name a file in an existing folder.")
    opened = open_model(s)
    bags = opened.bags if s.most_positives is None else thinned(opened.bags, s.most_positives, s.seed)
    advance, said = progress or silent, []
    for i, one in enumerate(say(opened.net, bags, bags.series, opened.device)):
        said.append(one)
        advance("asking the model", i + 1, len(bags.series))
    scores = Scores.of(said)
    found = MilEvaluation(
        opened.model.name,
        bags.name,
        opened.split,
        opened.target,
        len(said),
        int(scores.positive.sum()),
        len(set(scores.groups.tolist())),
        figures(scores, opened.target),
        opened.notes,
    )
    if s.out is not None:
        write_json(s.out, found.as_json())
    return found


def write_json(path: Path, found: dict[str, object]) -> None:
    """Write figures to a file."""
    with atomic(path) as scratch:
        scratch.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
