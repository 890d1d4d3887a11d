"""cfdiff zero-shot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cfdiff.cli import tables
from cfdiff.cli.options import command
from cfdiff.cli.tables import PlainTable
from cfdiff.progress import progress_bar
from cfdiff.zero_shot.settings import ZeroShotSettings

if TYPE_CHECKING:
    from cfdiff.zero_shot.run import ZeroShot

DOC = """See what an image-text model knows of images: their class by two texts, and retrieval against chance.

Takes a model of cfdiff train-clip or a local folder of a CLIP model of transformers (docs/clip.md)."""


@command(ZeroShotSettings, DOC, names={"json_": "--json"}, arguments=("model",))
def zero_shot(settings: ZeroShotSettings) -> None:
    from cfdiff.zero_shot.run import zero_shot as run

    with progress_bar("opening") as advance:
        found = run(settings, advance)
    if settings.json_:
        print(json.dumps(found.as_json(), indent=2))
    else:
        tables.show(table(found))


def table(found: ZeroShot) -> PlainTable:
    """A row a figure, beside what chance and the commonest answers give."""
    title = f"{found.model} on {found.images} images of {found.data} ({found.split}), {found.captions} captions"
    shown = PlainTable("", "right [95 % interval]", "chance", "commonest", title=title, caption=_caption(found))
    for name, rate in found.rates.items():
        between = "" if rate.interval is None else f" [{', '.join(f'{100 * end:.1f}' for end in rate.interval)}]"
        commonest = "" if rate.commonest is None else f"{100 * rate.commonest:.1f} %"
        shown.add_row(name, f"{100 * rate.value:.1f} %{between}", f"{100 * rate.chance:.1f} %", commonest)
    return shown


def _caption(found: ZeroShot) -> str:
    units = "images" if found.groups is None else f"{found.groups} groups"
    words = [f"Intervals: over {units}; of text to image over texts."]
    if found.known:
        words.append(f"The model learned from {found.known} of these groups, so the figures flatter it.")
    if found.texts is not None:
        words.append(f"class: {found.texts[0]!r} or {found.texts[1]!r}, balanced over both.")
    words.append("@k: the right one is among the k most alike. commonest: who says the commonest captions.")
    return " ".join(words)
