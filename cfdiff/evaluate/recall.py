"""Recall: what the judges say of real images of the class asked for, beside what they say of the edited ones."""

from __future__ import annotations

from collections.abc import Mapping

from cfdiff.edit.recall import real_images, recognised
from cfdiff.evaluate.judge import Judge
from cfdiff.evaluate.reference import open_reference
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.store.recall import Recall, recall_of
from cfdiff.store.runs import Run

BOTH = "both"


def recalls(s: EvaluateSettings, run: Run, judges: Mapping[str, Judge]) -> dict[str, Recall]:
    """Role -> recall: as the file has it for the models of the run, asked anew for other judges, and for `BOTH`.

    The real images are those that `cfdiff translate` takes: of the class (or classes) asked for, in the same split, at
    most 512. Without any at hand, what asks them anew is left out.
    """
    asked = {name: judge for name, judge in judges.items() if judge.another or name not in run.recall}
    stored = {name: found for name, found in run.recall.items() if name not in asked}
    wanted = dict(judges) if len(judges) > 1 else asked
    reference = open_reference(s, run) if wanted else None
    real = None
    if reference is not None:
        seed = int(run.settings.get("seed", s.seed))
        real = real_images(reference.images, set(run.target.tolist()), seed)
    if real is None:
        return stored
    hits, groups = recognised({name: judge.model for name, judge in wanted.items()}, real, s.batch_size)
    if len(judges) > 1:
        known = list(hits.values())
        hits[BOTH] = known[0].copy()
        for more in known[1:]:
            hits[BOTH] &= more
    return stored | {name: recall_of(known, groups) for name, known in hits.items() if len(known)}
