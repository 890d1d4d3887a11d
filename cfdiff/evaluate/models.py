"""The models that measure a run, as the settings ask for them."""

from __future__ import annotations

from dataclasses import dataclass

from cfdiff.edit.roles import pick_device
from cfdiff.evaluate.judge import Judge, find_judges, need, role_of
from cfdiff.evaluate.realism import Space, feature_space
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.store.runs import Run


@dataclass(frozen=True, eq=False)
class Models:
    """Judges by the names that figures give them, who asks for COUT and its like, and the feature space; or None."""

    judges: dict[str, Judge]
    faithful: Judge | None
    space: Space | None

    @property
    def judge(self) -> Judge | None:
        """The judge that decides; None where there is none."""
        return self.judges.get("judge")


def models_of(s: EvaluateSettings, run: Run) -> Models:
    """Load what the settings ask for.

    Raises:
        UserError: a model is missing, unreadable, or not fit for the run.
    """
    device = pick_device(s.device)
    judges = {role_of(i): judge for i, judge in enumerate(find_judges(s, run, device))}
    judge = judges.get("judge")
    faithful = _wanted(judge, s.faithfulness, "--faithfulness")
    space = None if s.realism is False else feature_space(s, run, judge, device)
    if space is None and (s.realism or s.reference is not None):
        need(judge, "--realism with the judge's features")
    return Models(judges, faithful, space)


def _wanted(judge: Judge | None, asked: bool | None, what: str) -> Judge | None:
    if asked is False:
        return None
    return need(judge, what) if asked else judge
