"""What the report of a translation says and shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cfdiff.evaluate.masks import read_masks
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.figures.colour import is_colour
from cfdiff.figures.rows import Rows, Selection, read_rows, select
from cfdiff.metrics.columns import Columns, Figure
from cfdiff.metrics.intervals import over
from cfdiff.report.html.cards import Gallery, gallery
from cfdiff.report.html.plots import Plot, before_after, change_histogram, retry_histogram
from cfdiff.report.html.tables import interval
from cfdiff.report.settings import ReportSettings
from cfdiff.store import Result
from cfdiff.store.runs import open_run

_EXAMPLES = 12
_RECALL = (
    " A model’s recall is the share of real images of the class asked for that it sees as that class, in the same "
    "split: a flip rate can hardly be worth more than that."
)
_ORDERS = [
    ("file", "file order"),
    ("gain-down", "gain, high first"),
    ("gain-up", "gain, low first"),
    ("change-down", "change, large first"),
    ("change-up", "change, small first"),
    ("id", "id"),
]


def image_context(result: Result, s: ReportSettings) -> dict[str, Any]:
    """The context of templates/images.html.j2."""
    rows = read_rows(result)
    selection = select(rows, s.limit)
    masks = lesions(s)
    made = gallery(result, rows, selection, {} if masks is None else dict(enumerate(masks)), s.side)
    examples = by_area(made)
    classes = result.settings["classes"]
    target = classes[int(result["target"][0])]
    sections = [("summary", "Summary"), ("distributions", "Distributions"), ("gallery", "Gallery")]
    if examples:
        sections.insert(2, ("localisation", "Localisation"))
    return {
        "title": result.attrs["direction"].replace("->", "\N{RIGHTWARDS ARROW}"),
        "lead": lead(result, rows, target),
        "tiles": tiles(result, rows),
        "intervals": intervals(rows) + (_RECALL if result.recall else ""),
        "plots": plots(rows, target),
        "localisation": located(made) if examples else "",
        "shown": shown(rows, selection, made),
        "filters": filters(rows, selection),
        "orders": _ORDERS if rows.decider else [order for order in _ORDERS if "gain" not in order[0]],
        "limit": f"{made.limit:g}",
        "channels": "lightness" if is_colour(result.source.shape) else "",
        "sections": sections,
        "data": {**made.data(), "extremes": selection.extremes, "examples": examples},
    }


def lesions(s: ReportSettings) -> np.ndarray | None:
    """(N, H, W) bool of the run's images, as evaluate reads them; None where there are none."""
    with open_run(s.run) as run:
        told = s.model_dump(include={"run", "data", "layout", "reading", "masks"})
        return read_masks(EvaluateSettings.model_validate(told), run)


def lead(result: Result, rows: Rows, target: str) -> str:
    """What was done to how many images, and who says whether it worked."""
    groups = "" if rows.groups is None else f" from {len(np.unique(rows.groups)):,} groups"
    verdict = {
        "judge": "The judge is a classifier that never steered: only its word counts as flipped.",
        "verifier": "There was no judge: flipped is the word of the verifier, which never steered, but accepted.",
        "checker": "There was no independent judge: flipped is the word of the checker, which also steered.",
        None: "There was no classifier of clean images, so nothing is known of the class afterwards.",
    }[rows.decider]
    words = "" if result.told is None else f", told {result.told}"
    return f"{_images(len(rows))} of {result.settings['data']}{groups}, edited to become {target}{words}. {verdict}"


def tiles(result: Result, rows: Rows) -> list[dict[str, str]]:
    """The figures of the summary, over all images, each with its interval."""
    columns = Columns(len(rows), rows.groups, rows.flipped)
    made, recall = [], result.recall
    for who, p in rows.prob.items():
        before = f"{(p[:, 0] > 0.5).mean():.1%} before the edit"
        if who in recall:
            before += f"; its recall {recall[who]}"
        made.append(
            _tile(f"seen as the target by the {who}", columns.share("", p[:, 1] > 0.5), "{:.1%}".format, before)
        )
    if rows.gain is not None:
        gain = columns.mean("", rows.gain, within=(-1, 1))
        made.append(
            _tile(f"mean gain in p(target), {rows.decider}", gain, "{:+.3f}".format, "after \N{MINUS SIGN} before")
        )
    change = columns.mean("", rows.change, within=(0, 1))
    made.append(_tile("mean |difference|", change, "{:.4f}".format, "full range = 1"))
    if rows.retries is not None:
        made.append(_tile("tried again", columns.share("", rows.retries > 0), "{:.1%}".format, "of the images"))
    if "guidance/network_calls" in result:
        calls = columns.mean("", result["guidance/network_calls"][:].astype(np.float64))
        made.append(_tile("network calls an image", calls, "{:.1f}".format, "of the diffusion model"))
    return made


def _tile(name: str, figure: Figure, number: Callable[[float], str], note: str) -> dict[str, str]:
    entry = figure.all
    assert entry.value is not None, "a result has images"
    span = "" if entry.interval is None else interval(*entry.interval, number)
    return {"name": name, "value": number(entry.value), "interval": span, "note": note}


def intervals(rows: Rows) -> str:
    """How the intervals were made."""
    start = "All images count, flipped or not. Under each figure stands its 95 % interval, over "
    if over(rows.groups) == "images":
        return start + "images, taken as independent."
    return start + "whole groups, because images of one group are not independent."


def plots(rows: Rows, target: str) -> list[Plot]:
    """p(target) before and after by each model, the change, the retries."""
    made = [before_after(f"p({target}), {who}", p, target) for who, p in rows.prob.items()]
    made.append(change_histogram(rows.change, rows.flipped))
    return made if rows.retries is None else [*made, retry_histogram(rows.retries, rows.flipped)]


def filters(rows: Rows, selection: Selection) -> list[tuple[str, str, str]]:
    """The tabs of the gallery: value, words, how many."""
    most = min(selection.extremes, len(selection.shown))
    tabs = [("all", "All", f"{len(selection.shown):,}")]
    if rows.decider:
        failures = int(np.isin(rows.failed(), selection.shown).sum())
        tabs += [("best", "Best", str(most)), ("worst", "Worst", str(most)), ("failed", "Failed", f"{failures:,}")]
    return [*tabs, ("random", "Random", str(len(selection.random)))]


def shown(rows: Rows, selection: Selection, made: Gallery) -> str:
    """What the gallery holds, and how its tabs were chosen."""
    words = []
    if len(selection.shown) < len(rows):
        failed = rows.failed()
        here = int(np.isin(failed, selection.shown).sum())
        named = f"the best, the worst, {here:,} of {len(failed):,} failures, and " if rows.decider else ""
        chosen = f"{named}a draw from all"
        words.append(
            f"{len(selection.shown):,} of {_images(len(rows))} are here: {chosen}. The figures above are of all images."
        )
    if rows.decider:
        words.append(f"Best and worst are by the gain in p(target) that the {rows.decider} sees.")
    words.append("Random images are drawn from the whole run, failures as they fall.")
    if made.reduction > 1:
        words.append(f"The pictures are reduced {made.reduction} times; the figures are of the full size.")
    return " ".join(words)


def by_area(made: Gallery) -> list[int]:
    """Rows of images with a mask, spread evenly from the smallest to the largest."""
    masked = sorted((card for card in made.cards if "m" in card), key=lambda card: card["area"])
    places = np.linspace(0, len(masked) - 1, min(_EXAMPLES, len(masked))).round().astype(int)
    return [masked[place]["n"] for place in np.unique(places).tolist()]


def located(made: Gallery) -> str:
    """How much of the change lies in the outlines."""
    masked = [card for card in made.cards if "m" in card]
    within, area = (float(np.mean([card[key] for card in masked])) for key in ("inside", "area"))
    return (
        f"{_images(len(masked))} shown here have a mask (yellow outline). On average {within:.0%} of the absolute "
        "change (of each channel, where there are several) lies in a mask that covers "
        f"{area:.1%} of the image; a map that knows nothing would have {area:.1%}. "
        "Below, examples from the smallest to the largest mask."
    )


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
