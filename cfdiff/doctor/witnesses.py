"""Checks of what the models have seen: judge and verifier must not know the guide's images, nor any those of a run."""

from __future__ import annotations

from pathlib import Path

from cfdiff.data.raw import file_sha256
from cfdiff.doctor.context import Context
from cfdiff.doctor.lines import Line
from cfdiff.edit.roles import model_paths
from cfdiff.models.checkpoint import Model
from cfdiff.models.ensemble import members
from cfdiff.roles import STEERING, file_hashes, nth

MISSING = {
    "verifier": "The checker that steers accepts its own edits, and what follows a gradient may fool the one it is of: "
    "train a verifier on other groups or of another --arch, and name it with --verifier.",
    "judge": "No independent verdict on a flip: train a judge on other groups and name it with --judge.",
}


def verifier(context: Context) -> list[Line]:
    """The verifier against guide and checker: not the same file; shared groups only with another architecture."""
    return independence(context, "verifier", STEERING)


def judge(context: Context) -> list[Line]:
    """The judge against all that steer or accept: not the same file, no shared training groups."""
    return independence(context, "judge", (*STEERING, "verifier"))


def independence(context: Context, witness: str, others: tuple[str, ...]) -> list[Line]:
    """Whether a witness is none of those that it speaks of, and has learned from other images."""
    model = context.models.get(witness)
    path = None if model is not None else next(iter(model_paths(context.s, context.s.data, witness)), None)
    if (
        isinstance(path, Path) and path.is_file()
    ):  # not loaded: perhaps because it is the guide, which is of another kind
        digest = file_sha256(path)
        same = [role for role, other in context.models.items() if digest in file_hashes(other.sha256)]
        if same:
            return [_the_same(witness, same)]
    if model is None:
        return [Line(witness, "warn", f"there is no {witness}", MISSING[witness])]
    known = {role: context.models[role] for role in others if role in context.models}
    own = file_hashes(model.sha256)
    same = [role for role, other in known.items() if own & file_hashes(other.sha256)]
    if same:
        return [_the_same(witness, same)]
    return [
        _shared(witness, one, nth(witness, i), theirs, nth(role, k))
        for i, one in enumerate(members(model))
        for role, other in known.items()
        for k, theirs in enumerate(members(other))
    ]


def _the_same(witness: str, roles: list[str]) -> Line:
    advice = f"Its verdict means nothing: name another --{witness}, trained on other groups with another seed."
    return Line(witness, "fail", f"the {witness} is the {' and the '.join(roles)}: the same file", advice)


def _shared(witness: str, mine: Model, one: str, theirs: Model, other: str) -> Line:
    """What a model of the role `witness`, called `one`, has in common with one that is called `other`."""
    name = f"{one} and {other}"
    arch, other_arch = (model.card.config.get("arch") for model in (mine, theirs))
    if witness == "verifier" and arch and other_arch and arch != other_arch:  # of a graph nobody knows it
        return Line(name, "ok", f"another architecture ({arch})", values={"shared": 0.0})
    my_groups, their_groups = (set(model.card.data.get("groups") or ()) for model in (mine, theirs))
    if _fingerprints(mine) & _fingerprints(theirs):
        advice = f"Train the {witness} on other groups (cfdiff train-classifier --clean --split train-{witness})."
        return Line(name, "warn", "trained on the very same images", advice)
    if not my_groups or not their_groups:
        silent = " and ".join(who for who, groups in ((one, my_groups), (other, their_groups)) if not groups)
        advice = "See for yourself that they share no patient, or train them with --group-key."
        return Line(name, "warn", f"cannot be checked: no training groups in the card of the {silent}", advice)
    shared = len(my_groups & their_groups)
    figure = f"{shared} of the {witness}'s {len(my_groups)} training groups shared"
    if shared:
        advice = f"The {witness} is not independent: train it on other groups."
        return Line(name, "warn", figure, advice, {"shared": float(shared)})
    return Line(name, "ok", figure, values={"shared": 0.0})


def _fingerprints(model: Model) -> set[str]:
    """Of the images that a model learned from, and those that it was adapted to, where its card tells."""
    told = (model.card.data, model.card.data.get("adapted_to"))
    return {str(data["fingerprint"]) for data in told if isinstance(data, dict) and data.get("fingerprint")}


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
