"""Checks of what the models have seen: the judge must not know the guide's images, nor they the images of a run."""

from __future__ import annotations

from cfdiff.data.raw import file_sha256
from cfdiff.doctor.context import Context
from cfdiff.doctor.lines import Line
from cfdiff.edit.roles import model_paths
from cfdiff.models.checkpoint import Model

STEERING = ("guide", "checker")


def independence(context: Context) -> list[Line]:
    """The judge against guide and checker: not the same file, no shared training groups."""
    judge = context.models.get("judge")
    path = None if judge is not None else next(iter(model_paths(context.s, context.s.data, "judge")), None)
    if path is not None and path.is_file():  # not loaded: perhaps because it is the guide, which is of another kind
        digest = file_sha256(path)
        same = [role for role, model in context.models.items() if model.sha256 == digest]
        if same:
            return [_the_same(same)]
    if judge is None:
        advice = "No independent verdict on a flip: train a judge on other groups and name it with --judge."
        return [Line("judge", "warn", "there is no judge", advice)]
    others = {role: context.models[role] for role in STEERING if role in context.models}
    same = [role for role, model in others.items() if model.sha256 == judge.sha256]
    if same:
        return [_the_same(same)]
    return [_shared(judge, role, model) for role, model in others.items()]


def _the_same(roles: list[str]) -> Line:
    advice = "Its verdict means nothing: name another --judge, trained on other groups with another seed."
    return Line("judge", "fail", f"the judge is the {' and the '.join(roles)}: the same file", advice)


def _shared(judge: Model, role: str, model: Model) -> Line:
    name = f"judge and {role}"
    mine, theirs = set(judge.card.data.get("groups") or ()), set(model.card.data.get("groups") or ())
    fingerprint = judge.card.data.get("fingerprint")
    if fingerprint is not None and fingerprint == model.card.data.get("fingerprint"):
        advice = "Train the judge on other groups (cfdiff train-classifier --clean --split train-judge)."
        return Line(name, "warn", "trained on the very same images", advice)
    if not mine or not theirs:
        silent = " and ".join(role for role, groups in (("judge", mine), (role, theirs)) if not groups)
        advice = "See for yourself that they share no patient, or train them with --group-key."
        return Line(name, "warn", f"cannot be checked: no training groups in the card of the {silent}", advice)
    shared = len(mine & theirs)
    figure = f"{shared} of the judge's {len(mine)} training groups shared"
    if shared:
        advice = "The judge is not independent: train it on other groups."
        return Line(name, "warn", figure, advice, {"shared": float(shared)})
    return Line(name, "ok", figure, values={"shared": 0.0})


def unseen(context: Context) -> list[Line]:
    """Whether the groups of the images looked at were in a model's training: then its figures here flatter it."""
    lists = {role: set(groups) for role, m in context.models.items() if (groups := m.card.data.get("groups"))}
    if context.data.groups is None or not lists:
        return []
    here = set(map(str, context.data.groups))
    counts = {role: len(here & groups) for role, groups in lists.items()}
    found = {role: float(count) for role, count in counts.items()}
    figure = f"of {len(here)} groups, in training: " + ", ".join(f"{n} of the {role}" for role, n in counts.items())
    if any(counts.values()):
        advice = "The other lines flatter these models: choose a --split that they were not trained on."
        return [Line("unseen images", "warn", figure, advice, found)]
    return [Line("unseen images", "ok", figure, values=found)]
