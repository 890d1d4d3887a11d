"""What the report of a bag run says and shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from cfdiff.bag.summary import BagSummary, summarise_bags
from cfdiff.figures.rows import Rows
from cfdiff.report.html.bags import Ratio, choose, edited_rows, gallery, ratios
from cfdiff.report.html.cards import Gallery
from cfdiff.report.html.maps import slide_maps
from cfdiff.report.html.plots import Plot, before_after, change_histogram, dose_response, retry_histogram
from cfdiff.report.html.tables import interval
from cfdiff.report.settings import ReportSettings
from cfdiff.store.bags import Bags

_ARROWS = "\N{LEFT RIGHT ARROW}"


def bag_context(bags: Bags, s: ReportSettings) -> dict[str, Any]:
    """The context of templates/bags.html.j2."""
    lines, rows = ratios(bags), edited_rows(bags)
    chosen = choose(bags, s.limit)
    made = gallery(bags, chosen, lines, s.side)
    maps = slide_maps(bags, chosen, s.data)
    negative, positive = bags.settings["classes"]
    mixes = sorted({line.requested for line in lines})
    asked = f"{mixes[0]:.3g}" if len(mixes) == 1 else f"{mixes[0]:.3g} to {mixes[-1]:.3g}"
    return {
        "title": f"Bags, {negative} {_ARROWS} {positive}, at a mix of {asked}",
        "lead": lead(bags, positive),
        "tiles": tiles(summarise_bags(s.run)),
        "intervals": (
            "Under a figure stands its 95 % interval, over whole bags (of a single one, over its mixes or edits), "
            "because what is of one bag is not independent. An edit counts once, however many mixes show it."
        ),
        "plots": plots(lines, rows, positive),
        "ratios": lines,
        "shams": any(line.sham for line in lines),
        "positive": positive,
        "negative": negative,
        "shown": shown(lines, made),
        "mixes": mixes,
        "maps": maps,
        "limit": f"{made.limit:g}",
        "channels": bags.images("source", np.array([0])).shape[-1] > 1,
        "sections": [
            ("summary", "Summary"),
            ("distributions", "Dose and response"),
            ("ratios", "Ratios"),
            *([("maps", "On the slide")] if maps else []),
            ("gallery", "Gallery"),
        ],
        "data": made.data(),
    }


def lead(bags: Bags, positive: str) -> str:
    """What was asked of how many bags, and what stayed as it was."""
    count, instances = len(bags.read("bag/name")), len(bags.read("instance/id"))
    return (
        f"{count:,} bags of {bags.settings['data']}, {instances:,} instances, {len(bags):,} pairs of a bag and a mix, "
        f"{bags.settings['mode']} mode. Mix is the fraction of {positive}; what was not edited is as it was, byte for "
        "byte."
    )


def tiles(figures: BagSummary) -> list[dict[str, str]]:
    """The figures of the summary."""
    made = [
        {
            "name": "instances translated",
            "value": f"{figures.translated:,}",
            "interval": "",
            "note": _failures(figures),
        }
    ]
    if figures.achieved is not None:
        achieved = figures.achieved
        low, high = achieved.exact_95
        off = achieved.mean_off_planned_95
        made += [
            {
                "name": "bags and mixes with the exact count, judge",
                "value": f"{achieved.exact:.1%}",
                "interval": interval(low, high, "{:.1%}".format),
                "note": "as planned, on all images as saved",
            },
            {
                "name": "mean |achieved \N{MINUS SIGN} planned|, judge",
                "value": f"{achieved.mean_off_planned:.3f}",
                "interval": interval(off[0], off[1], "{:.3f}".format) if off else "",
                "note": f"|planned \N{MINUS SIGN} requested| is {figures.mean_rounding:.3f}, by rounding",
            },
        ]
    if figures.flipped_judge is not None and figures.flipped_judge_95 is not None:
        low, high = figures.flipped_judge_95
        made.append(
            {
                "name": "edits that the judge sees",
                "value": f"{figures.flipped_judge:.1%}",
                "interval": interval(low, high, "{:.1%}".format),
                "note": "",
            }
        )
    if figures.judge_error_on_real is not None:
        error = f"{figures.judge_error_on_real:.1%}"
        note = "bounds what it can confirm"
        made.append({"name": "judge’s error on real instances", "value": error, "interval": "", "note": note})
    if figures.mean_abs_difference is not None:
        change = f"{figures.mean_abs_difference:.4f}"
        made.append(
            {"name": "mean |difference| of the edits", "value": change, "interval": "", "note": "full range = 1"}
        )
    return made


def _failures(figures: BagSummary) -> str:
    replaced, outside = figures.replaced_failures, figures.changed_outside_edits
    return f"{replaced:,} failures replaced; {outside} changed outside the edits"


def plots(lines: list[Ratio], rows: Rows | None, positive: str) -> list[Plot]:
    """Dose and response by the judge, or the checker where there was none; then what is known of the edited."""
    made = []
    for who, key in (("judge", "achieved"), ("checker", "achieved_by_checker")):
        achieved = np.array([getattr(line, key) for line in lines])
        if achieved[0] is not None:
            requested = np.array([line.requested for line in lines])
            made.append(dose_response(requested, achieved, [f"bag {line.name}" for line in lines], positive, who))
            break
    if rows is not None:
        made += [
            before_after(f"p(class asked for) of the edited, {who}", p, "the class asked for")
            for who, p in rows.prob.items()
        ]
        made.append(change_histogram(rows.change, rows.flipped))
        assert rows.retries is not None
        made.append(retry_histogram(rows.retries, rows.flipped))
    return made


def shown(lines: list[Ratio], made: Gallery) -> str:
    """What the gallery holds."""
    words = ["Each bag at each mix, all its instances; the edited ones are framed."]
    if len(made.bags) < len(lines):
        words.append(f"{len(made.bags):,} of {len(lines):,} are shown, evenly spread; the figures above are of all.")
    if made.reduction > 1:
        words.append(f"The pictures are reduced {made.reduction} times.")
    return " ".join(words)
