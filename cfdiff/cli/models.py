"""`cfdiff models`: inspect and describe models, and make model files of other people's checkpoints."""

from __future__ import annotations

import json

import typer

from cfdiff.api import TASKS
from cfdiff.cli import tables
from cfdiff.cli.describe import describe
from cfdiff.cli.options import command
from cfdiff.cli.tables import PlainTable
from cfdiff.modelfiles.description import Description
from cfdiff.modelfiles.settings import ImportAdmClassifierSettings, ImportAdmSettings, InspectModelSettings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Inspect, describe and import models that others made."
)
imports = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make model files of other people's checkpoints."
)
app.add_typer(imports, name="import")

FLAGS = """

All flags of guided-diffusion's README may be given as they stand there. What shows in the checkpoint need not be said;
a flag that contradicts it is an error that names the flag."""


@command(InspectModelSettings, TASKS["inspect_model"].summary, names={"json_": "--json"}, arguments=("model",))
def inspect(settings: InspectModelSettings) -> None:
    from cfdiff.modelfiles.inspect import inspect_model as run

    _print(run(settings), settings.json_)


@command(ImportAdmSettings, TASKS["import_adm"].summary + FLAGS, names={"out": "--out -o"}, arguments=("checkpoint",))
def adm(settings: ImportAdmSettings) -> None:
    from cfdiff.modelfiles.adm import import_adm as run

    _print(run(settings))


@command(
    ImportAdmClassifierSettings,
    TASKS["import_adm_classifier"].summary + FLAGS,
    names={"out": "--out -o"},
    arguments=("checkpoint",),
)
def adm_classifier(settings: ImportAdmClassifierSettings) -> None:
    from cfdiff.modelfiles.adm import import_adm_classifier as run

    _print(run(settings))


app.command("inspect")(inspect)
app.command("describe")(describe)
# guided-diffusion writes --image_size where we write --image-size: both are taken.
THEIRS = {"token_normalize_func": lambda word: word.replace("_", "-")}
imports.command("adm", context_settings=THEIRS)(adm)
imports.command("adm-classifier", context_settings=THEIRS)(adm_classifier)


def _print(found: Description, as_json: bool = False) -> None:
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
        return
    table = PlainTable("", "", title=found.name, show_header=False)
    for row in found.rows():
        table.add_row(*row)
    tables.show(table)
