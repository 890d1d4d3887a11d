"""cfdiff mil explain: what a bag model looks at, and how its answer follows the mix under edits and exchanges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.errors import UserError
from cfdiff.figures.mil import Curve, attention_before_after, dose_curves
from cfdiff.metrics.bag_scores import instance_auprc
from cfdiff.mil.answers import Said, embeddings, say
from cfdiff.mil.dose import Doses, mean_curve
from cfdiff.mil.evaluate import write_json
from cfdiff.mil.measure import Measured
from cfdiff.mil.opened import Opened, check_fits, open_model
from cfdiff.mil.result import MilExplanation
from cfdiff.mil.series import BagSet, Series
from cfdiff.mil.settings import MilExplainSettings
from cfdiff.mil.sources import open_mixes
from cfdiff.mil.swaps import Donors, like_edits, swap_counts, swap_series
from cfdiff.progress import Progress, silent
from cfdiff.registry import ATTRIBUTIONS
from cfdiff.store.output import own_folder

SHOWN = 0.25
"""The picture of the attention shows the version nearest to this fraction of edited instances."""


def mil_explain(s: MilExplainSettings, progress: Progress | None = None) -> MilExplanation:
    """Ask, measure and draw; the figures are also written to explain.json in the folder.

    Raises:
        UserError: model, bags, sweep or folder cannot be used as asked.
    """
    if s.out.is_dir() and any(s.out.iterdir()) and not s.force:
        raise UserError(f"--out {s.out} holds something already: name another folder, or use --force.")
    advance = progress or silent
    opened = open_model(s)
    real = opened.bags
    edited, notes = (None, ()) if s.sweep is None else _edited(s, opened)
    if edited is None and not any(one.known for one in real.series):
        raise UserError(
            f"{real.name} does not say which instances are positive, so there is nothing to hold the attention against "
            "and nothing to exchange: give bags with labels of instances (torchmil, npz), or a --sweep."
        )
    own_folder(s.out)
    where = _where(opened, s.attribution.split("+"), advance)
    together = real if edited is None else real.joined(edited)
    doses = _doses(s, opened, together, real, edited, advance)
    pictures = _draw(s.out, together, doses, opened.target == "fraction")
    found = MilExplanation(
        opened.model.name,
        real.name,
        opened.split,
        opened.target,
        None if edited is None else edited.name,
        len(real.series),
        len(doses.edited),
        where,
        doses.figures(),
        doses.curve(),
        pictures,
        (*opened.notes, *notes, *_silences(real, where, doses)),
    )
    write_json(s.out / "explain.json", found.as_json())
    return found


def _silences(real: BagSet, where: dict[str, Measured], doses: Doses) -> Iterator[str]:
    """Why some of it is not there."""
    if not where["chance"].n:
        yield (
            f"No bag of {real.name} is known to hold both classes, so the attributions are held against nothing."
            if any(one.known for one in real.series)
            else f"{real.name} does not say which instances are positive: the attributions are held against nothing."
        )
    if not doses.swapped:
        yield f"{real.name} has no instances of both classes in two groups, so none was exchanged."


def _edited(s: MilExplainSettings, opened: Opened) -> tuple[BagSet, tuple[str, ...]]:
    """The bags of the sweep that are of patients asked about, in parts as the model's bags are, and what was left out.

    Raises:
        UserError: none is, one is of several patients, or the sweep is of other models or instances.
    """
    mixes = open_mixes(s.sweep or (), opened.bags)
    check_fits(opened.model, mixes)
    learned: dict[str, Any] = opened.model.card.data.get("mixture_models") or {}
    if learned and mixes.models and dict(mixes.models) != learned and not s.other_models:
        raise UserError(
            f"{mixes.name} was edited by other models than the mixtures that {opened.model.name} learned from: make it "
            "with the same --weights, or say --other-models."
        )
    settings: dict[str, Any] = opened.model.card.training["settings"]
    groups = set(opened.bags.groups)
    told = [replace(one, group=_patient(one, opened.patients, mixes.name)) for one in mixes.series]
    kept = tuple(one for one in told if one.group in groups)
    if not kept:
        raise UserError(
            f"{mixes.name} holds no bag of the patients of {opened.bags.name} {opened.split}: make it of the same data "
            "and split."
        )
    left = len(told) - len(kept)
    notes = []
    if left:
        others = f"{left} of {len(told)} bags of {mixes.name}"
        notes.append(f"{others} are of patients that are not asked about, and left out.")
    size = s.bag_size or settings.get("bag_size") or (max(one.size for one in opened.bags.series))
    parts = replace(mixes, series=kept).cut(size, s.seed)
    if s.limit is not None and len(parts.series) > s.limit:
        notes.append(f"{len(parts.series) - s.limit} of {len(parts.series)} edited bags are left out by --limit.")
    return replace(parts, series=parts.series[: s.limit]), tuple(notes)


def _patient(one: Series, patients: dict[str, str], name: str) -> str:
    """Whose instances they are: by their ids, of features by the case.

    Raises:
        UserError: of several patients, as drawn bags may be: one may be learned from, and intervals are over patients.
    """
    of = {one.group} if one.ids is None else {patients.get(i, one.group) for i in one.ids.tolist()}
    if len(of) > 1:
        raise UserError(
            f"The bag {one.name} of {name} holds instances of {len(of)} patients, and figures and intervals are of "
            "patients: make the sweep without --bag-size."
        )
    return of.pop()


def _where(opened: Opened, names: list[str], advance: Progress) -> dict[str, Measured]:
    """AUPRC of each attribution against the labels of instances, over bags that hold both classes."""
    mixed = [one for one in opened.bags.series if one.known and 0 < one.positives[0] < one.size]
    values: dict[str, list[float]] = {name: [] for name in names}
    for i, one in enumerate(mixed):
        h = embeddings(opened.net, opened.bags.contents, one.rows[0], opened.device)
        for name in names:
            share = ATTRIBUTIONS[name](opened.net, h).float().cpu().numpy()
            values[name].append(instance_auprc(share, one.labels[0] == 1))
        advance("looking at instances", i + 1, len(mixed))
    groups = np.array([one.group for one in mixed])
    chance = np.array([one.mixes[0] for one in mixed])
    found = {
        name: Measured.mean(f"AUPRC of the {name}", np.array(values[name]), groups, (0, 1), "higher") for name in names
    }
    return found | {"chance": Measured.mean("AUPRC of chance (the mix)", chance, groups, (0, 1))}


def _doses(
    s: MilExplainSettings, opened: Opened, together: BagSet, real: BagSet, edited: BagSet | None, advance: Progress
) -> Doses:
    """The answers over the mix: of edited bags and of their twins, else of exchanges in the real bags."""
    donors = Donors(real)
    if edited is None:
        known = [one for one in real.series if one.known]
        twins = [swap_series(one, donors, swap_counts(one.size), s.seed) for one in known]
        asked: tuple[Series, ...] = ()
    else:
        asked = together.series[len(real.series) :]
        twins = [like_edits(one, donors, s.seed) for one in asked]
    swaps = [one for one in twins if one is not None]

    def answers(series: list[Series] | tuple[Series, ...], what: str) -> list[Said]:
        said = []
        for i, one in enumerate(say(opened.net, together, series, opened.device)):
            said.append(one)
            advance(what, i + 1, len(series))
        return said

    return Doses(answers(asked, "asking about edits"), answers(swaps, "asking about exchanges"))


def _draw(folder: Path, bags: BagSet, doses: Doses, fraction: bool) -> tuple[Path, ...]:
    drawn = []
    if doses.edited or doses.swapped:
        ways = {"edited": doses.edited, "real instances exchanged": doses.swapped}
        curves = {
            name: Curve(
                [(one.bag.mixes, one.probability) for one in said],
                [(point.mix, point.answer) for point in mean_curve(said)],
            )
            for name, said in ways.items()
            if len(said)
        }
        out = folder / "dose-response.png"
        drawn.append(dose_curves(curves, positive=bags.names[1], diagonal=fraction, out=out))
    shown = _example(doses.edited or doses.swapped)
    if shown is not None:
        said, v = shown
        rows = said.bag.rows[[0, v]]
        images = bags.contents[rows] if bags.images else None
        words = f"{said.bag.name}: {said.bag.mixes[0]:.2f} \N{RIGHTWARDS ARROW} {said.bag.mixes[v]:.2f} {bags.names[1]}"
        drawn.append(
            attention_before_after(
                said.attention[[0, v]], said.bag.labels[[0, v]], images, title=words, out=folder / "attention.png"
            )
        )
    return tuple(drawn)


def _example(said: list[Said] | Any) -> tuple[Said, int] | None:
    """The bag of the fewest positives in which some became positive, at the version nearest to `SHOWN` of it."""
    best: tuple[tuple[float, float], Said, int] | None = None
    for one in said:
        became = ((one.bag.labels == 1) & (one.bag.labels[0] != 1)).mean(1)
        for v in np.flatnonzero(became > 0).tolist():
            rank = (float(one.bag.mixes[0]), abs(SHOWN - float(became[v])))
            if best is None or rank < best[0]:
                best = (rank, one, v)
    return None if best is None else best[1:]
