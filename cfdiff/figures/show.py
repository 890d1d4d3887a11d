"""cfdiff show: some images of a run, or a bag, as a figure for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfdiff.errors import UserError
from cfdiff.figures.bags import contact_sheet
from cfdiff.figures.panel import FORMATS, panel
from cfdiff.figures.rows import Rows, read_rows
from cfdiff.figures.settings import ShowSettings
from cfdiff.roles import WITNESSES
from cfdiff.store import Result, open_result
from cfdiff.store.bags import open_bags
from cfdiff.store.output import check_output
from cfdiff.store.runs import is_bag_file


@dataclass(frozen=True)
class ShowResult:
    """The figure that was drawn, how many images (or bags) are in it, and of how many that were asked for."""

    figure: Path
    shown: int
    of: int


def show(s: ShowSettings) -> ShowResult:
    """Draw the figure.

    Raises:
        UserError: the run cannot be read, what is asked for is not in it, or the output cannot be written.
    """
    out = s.out or s.run.parent / f"{s.run.stem}-panel.png"
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"Cannot draw {out.name}: end --out in {', '.join(FORMATS)}.")
    bags = is_bag_file(s.run)
    check_output(out, s.force)
    return _show_bag(s, out) if bags else _show_images(s, out)


def _show_images(s: ShowSettings, out: Path) -> ShowResult:
    with open_result(s.run) as result:
        rows = read_rows(result)
        if rows.decider is None:
            raise UserError(f"A panel shows probabilities, and {s.run.name} has no classifier's: make it with --judge.")
        chosen, of = choose(rows, s)
        draw(result, chosen, out, names=s.names, title=s.title, columns=s.columns)
    return ShowResult(out, len(chosen), of)


def choose(rows: Rows, s: ShowSettings) -> tuple[np.ndarray, int]:
    """The rows that are asked for, each once, in the order asked: index, ids, best, worst, failed; else a spread.

    Beside them, of how many they are: more where --limit cut the failed or the spread.
    """
    parts = [np.array(s.index or (), np.int64), _rows_of(rows, s.ids or ())]
    if parts[0].size and parts[0].max() >= len(rows):
        raise UserError(f"--index {parts[0].max()} is not there: the images are 0 to {len(rows) - 1}.")
    parts += [rows.best(s.best or 0), rows.worst(s.worst or 0)]
    of = 0
    if s.failed:
        failed = rows.failed()
        if not len(failed):
            raise UserError(f"No image of {s.run.name} failed, so there is nothing to draw: leave --failed out.")
        parts.append(failed[: s.limit])
        of = len(failed) - len(parts[-1])
    named = np.concatenate(parts)
    if not len(named):
        spread = np.linspace(0, len(rows) - 1, min(s.limit, len(rows))).round().astype(np.int64)
        return np.unique(spread), len(rows)
    _, first = np.unique(named, return_index=True)
    chosen = named[np.sort(first)]
    return chosen, len(chosen) + of


def draw(
    result: Result, rows: np.ndarray, out: Path, *, names: bool = False, title: bool = True, columns: int = 3
) -> Path:
    """The panel of some rows of a result with probabilities; also the preview of cfdiff translate."""
    who = next(who for who in WITNESSES if f"prob/{who}" in result)
    p = result.prob(who)[rows, :, 1]
    read = {name: np.stack([result[name][i] for i in rows]) for name in ("source", "counterfactual", "difference")}
    negative, positive = result.settings["classes"]
    target = result["target"][:][rows]
    return panel(
        **read,
        before=p[:, 0],
        after=p[:, 1],
        classes=(negative, positive),
        ids=result["id"][:][rows].tolist() if names else None,
        flipped=(p[:, 1] > 0.5) == (target == 1),
        title=result.attrs["direction"].replace("->", "\N{RIGHTWARDS ARROW}") if title else None,
        subtitle=result.told,
        judged_by=who,
        per_row=columns,
        out=out,
    )


def _rows_of(rows: Rows, ids: tuple[str, ...]) -> np.ndarray:
    place = {name: row for row, name in enumerate(rows.ids.tolist())}
    for name in ids:
        if name not in place:
            raise UserError(
                f"There is no image {name!r}: ids are such as {str(rows.ids[0])!r}; cfdiff report lists them."
            )
    return np.array([place[name] for name in ids], np.int64)


def _show_bag(s: ShowSettings, out: Path) -> ShowResult:
    if s.ids or s.best or s.worst or s.failed or len(s.index or ()) > 1:
        raise UserError(f"{s.run.name} holds bags, shown whole and one at a time: name one by --index alone.")
    with open_bags(s.run) as bags:
        j = s.index[0] if s.index else 0
        if j >= len(bags):
            raise UserError(f"--index {j} is not there: the bags and mixes are 0 to {len(bags) - 1}.")
        contact_sheet(bags[j], tuple(bags.settings["classes"]), out)
        return ShowResult(out, 1, len(bags))
