"""`cfdiff models describe`: what a classifier that others made takes and says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cfdiff.cli import tables
from cfdiff.cli.tables import PlainTable
from cfdiff.errors import UserError
from cfdiff.files import parse_json
from cfdiff.models.description import NORMALISATIONS, description_file, read_description, write_description
from cfdiff.registry import OUTPUTS


def _option(text: str, metavar: str) -> Any:
    return typer.Option(help=text, metavar=metavar, show_default=False)


def describe(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="timm .safetensors or folder, TorchScript (.pt, .ts) or .onnx.", show_default=False
        ),
    ],
    classes: Annotated[
        str | None, _option("Index of the negative class, index of the positive: 0,1, or 3+5,7 for several.", "N,P")
    ] = None,
    output: Annotated[str | None, _option(f"What its numbers are: {', '.join(OUTPUTS)}.", "KIND")] = None,
    normalisation: Annotated[
        str | None, _option(f"{', '.join(NORMALISATIONS)}, or MEAN/STD: 0.5,0.5,0.5/0.2,0.2,0.2.", "NAME")
    ] = None,
    channels: Annotated[str | None, _option("3 or 1; gray images are given to 3 alike.", "N")] = None,
    size: Annotated[str | None, _option("Images are resized to it: 224 or 224x200; images: as they are.", "N")] = None,
    interpolation: Annotated[str | None, _option("How: bilinear or bicubic [default: bilinear].", "KIND")] = None,
    against: Annotated[
        str | None, _option("A class's p is its share of all classes, or of the pair [default: all].", "WHAT")
    ] = None,
    names: Annotated[
        str | None, _option("Of both classes, to be held against the data's: healthy,sick.", "N,P")
    ] = None,
    arch: Annotated[str | None, _option("timm's name of it, for a .safetensors file.", "NAME")] = None,
    num_classes: Annotated[int | None, _option("How many it knows [default: by its last layer].", "N")] = None,
    kwargs: Annotated[str | None, _option("Further arguments of timm.create_model, as JSON.", "JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Write what a classifier takes and says beside it (MODEL.toml), for --checker, --verifier and --judge.

    What is given is added to what stands there and to what the file says itself; nothing is guessed. cfdiff doctor then
    checks it on labelled images.
    """
    from cfdiff.models.foreign import describe as whole
    from cfdiff.models.foreign import format_of

    if not model.exists():
        raise UserError(f"There is no model {str(model)!r}: name a .safetensors, .pt, .ts or .onnx file, or a folder.")
    form = format_of(model)
    if form is None:
        raise UserError(
            f"{model.name} is no classifier that cfdiff can read: give a timm .safetensors file or folder, TorchScript "
            "(.pt, .ts) or ONNX (.onnx)."
        )
    if (advice := getattr(form, "advice", None)) is not None:  # it is described in other words
        raise UserError(advice(model))
    told = {
        "classes": classes,
        "output": output,
        "normalisation": normalisation,
        "channels": None if channels is None else int(channels) if channels.isdecimal() else channels,
        "size": None if size is None else int(size) if size.isdecimal() else size,
        "interpolation": interpolation,
        "against": against,
        "names": names,
        "arch": arch,
        "num_classes": num_classes,
        "kwargs": None if kwargs is None else _table(kwargs),
    }
    given = {key: value for key, value in told.items() if value is not None}
    known = read_description(model)
    found = whole(form, model, more=given)  # says what is missing or impossible, before anything is written
    if given:
        write_description(model, {**known, **given})
    facts = {"model": model.name, "description": description_file(model).name, **found.facts}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    shown = PlainTable(title=model.name, show_header=False)
    for name, value in facts.items():
        if name != "model":
            shown.add_row(name, value if isinstance(value, str) else json.dumps(value))
    tables.show(shown)


def _table(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"--kwargs wants a JSON object, not {text!r}.") from error
