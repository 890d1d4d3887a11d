"""The data of a report of bags: ratios of every bag and mix, and the instances of those that are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cfdiff.data.values import mean_change
from cfdiff.figures.panel import change_map, shown
from cfdiff.figures.rows import Rows
from cfdiff.report.html.cards import Gallery, common_range, numbers, value_window
from cfdiff.report.html.pictures import grey_or_rgb, overlay, reduced
from cfdiff.roles import WITNESSES
from cfdiff.store.bags import Bags


@dataclass(frozen=True)
class Ratio:
    """A bag at a mix: counts, and the mixes before, requested, planned and achieved (None: nobody was asked)."""

    name: str
    n: int
    edited: int
    sham: int
    before: float
    requested: float
    planned: float
    wanted: int
    achieved: float | None = None
    achieved_by_labels: float | None = None
    achieved_by_checker: float | None = None


def ratios(bags: Bags) -> list[Ratio]:
    """A line for every bag and mix."""
    names, of = bags.read("bag/name"), bags.read("mix/bag")
    columns = {key: bags.read(f"mix/{key}") for key in ("before", "requested", "planned", "wanted")}
    for key in ("achieved", "achieved_by_labels", "achieved_by_checker"):
        if f"mix/{key}" in bags:
            columns[key] = bags.read(f"mix/{key}")
    edited, sham = bags.read("row/edited"), bags.read("row/sham")
    lines = []
    for j in range(len(bags)):
        rows = bags.rows(j)
        counts = {"n": rows.stop - rows.start, "edited": int(edited[rows].sum()), "sham": int(sham[rows].sum())}
        values = {key: column[j].item() for key, column in columns.items()}
        lines.append(Ratio(name=str(names[of[j]]), **counts, **values))
    return lines


def edited_rows(bags: Bags, batch: int = 256) -> Rows | None:
    """The instances that changed class, each image once, as rows; None where nothing was edited."""
    used, at = bags.edits()
    if not len(used):
        return None
    target, source = bags.read("edit/target")[used].astype(np.int64), bags.read("edit/source")[used]
    prob = {
        who: bags.read(f"prob/{who}")[at][np.arange(len(at)), :, target] for who in WITNESSES if f"prob/{who}" in bags
    }
    parts = [slice(i, i + batch) for i in range(0, len(used), batch)]
    change = [mean_change(bags.images("source", source[p]), bags.images("counterfactual", used[p])) for p in parts]
    return Rows(
        ids=bags.read("instance/id")[bags.read("row/instance")[at]],
        groups=None,
        prob=prob,
        change=np.concatenate(change),
        flipped=next(iter(prob.values()))[:, 1] > 0.5 if prob else None,
        retries=bags.read("edit/retries")[used],
    )


def choose(bags: Bags, limit: int) -> list[int]:
    """The bags and mixes to show: all, or as many, evenly spread, as hold at most `limit` instances (at least one)."""
    sizes = np.diff(bags.read("mix/offset"))
    for count in range(len(bags), 1, -1):
        chosen = np.unique(np.linspace(0, len(bags) - 1, count).round().astype(int))
        if sizes[chosen].sum() <= limit:
            return chosen.tolist()
    return [0]


def gallery(bags: Bags, chosen: list[int], lines: list[Ratio], side: int) -> Gallery:
    """Cards of all instances of the chosen bags, and the bags as lists of them; a picture is stored once.

    Keys of a card as in `cards.gallery`, with p of the positive class, and: group the bag, kind up, down, sham or "".
    """
    edits = np.unique(np.concatenate([bags.read("row/edit", bags.rows(j)) for j in chosen]))
    edits = edits[edits >= 0]
    limit = (
        common_range((bags.images("difference", edits[[k]])[0] for k in range(len(edits))), side) if len(edits) else 1
    )
    sources = bags.read("instance/source")
    shape = bags[chosen[0]].source.shape[1:3]
    made = Gallery(shape, side, float(limit))
    low, high = value_window(_Lazy(bags))
    stored: dict[tuple[str, int], int] = {}

    def store(kind: str, number: int) -> int:
        """The picture of a source, a counterfactual or a difference, made when it is first asked for."""
        if (kind, number) not in stored:
            image = bags.images(kind, np.array([number]))[0]
            small = reduced(change_map(image) if kind == "difference" else shown(image, low, high), side)
            encoded = overlay(small, made.limit) if kind == "difference" else grey_or_rgb(small)
            stored[kind, number] = made.picture(encoded)
        return stored[kind, number]

    for j in chosen:
        where, members = bags.rows(j), []
        view, edit = bags[j], bags.read("row/edit", where)
        source = sources[bags.read("row/instance", where)]
        prob = {who: values[:, :, 1] for who, values in view.prob.items()}
        change = mean_change(view.source, view.image)
        for k, name in enumerate(view.ids.tolist()):
            kind = "sham" if view.sham[k] else "" if not view.edited[k] else "up" if view.label[k] else "down"
            card: dict[str, Any] = {
                "n": len(made.cards),
                "id": name,
                "group": f"bag {view.name}, mix {view.requested:.3g}",
                "kind": kind,
                "p": numbers(prob, k),
                "change": round(float(change[k]), 5),
                "s": store("source", int(source[k])),
            }
            if edit[k] >= 0:
                card |= {"c": store("counterfactual", int(edit[k])), "d": store("difference", int(edit[k]))}
            members.append(len(made.cards))
            made.cards.append(card)
        line = lines[j]
        made.bags.append({"name": line.name, "requested": line.requested, "words": words(line), "members": members})
    return made


def words(line: Ratio) -> str:
    """One line of `ratios` as a sentence."""
    arrow = "\N{RIGHTWARDS ARROW}"
    achieved = "" if line.achieved is None else f" {arrow} achieved {line.achieved:.3f} (judge)"
    return (
        f"{line.n} instances, {line.edited} edited \N{MIDDLE DOT} before {line.before:.3f} {arrow} requested "
        f"{line.requested:.3g} {arrow} planned {line.wanted}/{line.n} = {line.planned:.3f}{achieved}"
    )


class _Lazy:
    """The sources of a bag file as an array that is read one by one."""

    def __init__(self, bags: Bags) -> None:
        self._bags = bags

    def __len__(self) -> int:
        return int(self._bags.read("instance/source").max()) + 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self._bags.images("source", np.array([i]))[0]
