"""cfdiff generate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cfdiff.cli import tables
from cfdiff.cli.options import command
from cfdiff.cli.tables import PlainTable
from cfdiff.generate.settings import GenerateSettings
from cfdiff.progress import progress_bar

if TYPE_CHECKING:
    from cfdiff.generate.summary import Figure, GenerateSummary

DOC = """Draw images from noise: of any class, of one class, or what lies between two.

Runs on the bundled cells with no option. The result is one HDF5 file and a picture; a run that was stopped continues
when the same command is given again. Several --steps, as 5,10,20, show quality against calls."""


@command(
    GenerateSettings,
    DOC,
    names={"class_": "--class", "json_": "--json", "clip": "--clip/--no-clip", "compare": "--compare/--no-compare"},
)
def generate(settings: GenerateSettings) -> None:
    from cfdiff.generate.run import generate as run

    with progress_bar("loading") as advance:
        found = run(settings, advance)
    if settings.json_:
        print(json.dumps(found.as_json()))
    else:
        tables.show(table(found))


def table(found: GenerateSummary) -> PlainTable:
    """A column for each number of steps; FID and KID beside real against real."""
    title = f"{found.direction}, {found.sampler}, led by {found.led_by}"
    shown = PlainTable("", *(f"{walk.steps} steps" for walk in found.walks), title=title, caption=_caption(found))
    shown.add_row("images", *(str(walk.images) for walk in found.walks))
    shown.add_row("network calls an image", *(f"{walk.network_calls:g}" for walk in found.walks))
    if found.led_by not in ("none", "told"):
        shown.add_row("guided steps an image", *(f"{walk.guide_calls:g}" for walk in found.walks))
    first = found.walks[0]
    if first.seen is not None:
        shown.add_row(first.seen.label, *(_cell(walk.seen) for walk in found.walks))
    for name, figure in first.figures.items():
        shown.add_row(
            tables.with_arrow(figure.label, figure.better), *(_cell(walk.figures.get(name)) for walk in found.walks)
        )
    return shown


def _cell(figure: Figure | None) -> str:
    entry = None if figure is None else figure.all
    if figure is None or entry is None or entry.value is None:
        return "–"
    scale, unit = (100, " %") if figure.unit == "share" else (1, "")
    between = "" if entry.interval is None else f" [{', '.join(f'{scale * end:.3g}' for end in entry.interval)}]"
    return f"{scale * entry.value:.3g}{unit}{between}"


def _caption(found: GenerateSummary) -> str:
    words = [f"{found.result} and {found.picture}."]
    if found.against is not None:
        n = max((walk.figures["fid"].all.n for walk in found.walks if walk.figures), default=0)
        words.append(f"FID and KID: {n} images on each side, against {found.against}; 95 % of draws lie between.")
    if found.not_measured is not None:
        words.append(f"FID and KID not measured: {found.not_measured}.")
    bad = sum(walk.quarantined for walk in found.walks)
    words += [f"{bad} images were not finite: see status in the result."] if bad else []
    if found.seconds_per_image is not None:
        words.append(f"{found.seconds_per_image:.2f} seconds an image.")
    return " ".join(words)
