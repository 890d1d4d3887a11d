"""Turns a settings model into a typer command: one option a field, in the field's panel of --help, plus --config."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from cfdiff.errors import UserError
from cfdiff.files import parse_json
from cfdiff.models.given import Given
from cfdiff.registry import OneOf
from cfdiff.settings import S, Settings, Word, resolve

Run = Callable[[Any], None]

EDIT_NAMES = {
    "json_": "--json",
    "anchored": "--anchored/--plain",
    "closed_loop": "--closed-loop/--open-loop",
    "exact": "--exact/--cheap",
    "early": "--early/--no-early",
}
"""The spellings of the settings that every editing command shares."""


def command(
    model: type[S], doc: str, names: dict[str, str] | None = None, arguments: Collection[str] = ()
) -> Callable[[Run], Callable[..., None]]:
    """A decorator: `run(settings)` becomes a function that typer can make a command of.

    `names` gives an option other spellings, as typer writes them ("--noisy/--clean", "--out -o"); the fields in
    `arguments` are given by place (`cfdiff evaluate RUN.h5`).
    """

    def decorate(run: Run) -> Callable[..., None]:
        def function(config: Path | None = None, **options: Any) -> None:
            # An option that may be repeated is an empty list where it is not given.
            given = {k: _parse(model, k, v) for k, v in options.items() if v is not None and v != []}
            run(resolve(model, config, given))

        parameters = [_config_parameter()]
        for name, field in model.model_fields.items():
            if name in arguments:
                parameters.append(_argument(name, field))
            else:
                parameters.append(_parameter(name, field, (names or {}).get(name), panel_of(model, name)))
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in parameters}
        function.__name__ = run.__name__
        function.__doc__ = doc
        return function

    return decorate


def _config_parameter() -> inspect.Parameter:
    annotation = Annotated[Optional[Path], typer.Option(help="TOML file with any of these settings.")]  # noqa: UP045
    return inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def panel_of(model: type[Settings], name: str) -> str | None:
    """The panel of `--help` for a field: `Field(..., json_schema_extra={"panel": "Data"})`, there or in a parent."""
    for owner in model.__mro__:
        field = getattr(owner, "model_fields", {}).get(name)
        if field is not None and isinstance(field.json_schema_extra, dict) and "panel" in field.json_schema_extra:
            return str(field.json_schema_extra["panel"])
    return None


def _argument(name: str, field: Any) -> inspect.Parameter:
    kind = _plain(field.annotation)[0]
    argument = typer.Argument(help=field.description, metavar=name.upper(), show_default=False)
    if field.is_required():
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, argument])
    annotation = Annotated[Optional[kind], argument]  # type: ignore[valid-type]  # noqa: UP045
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _parameter(name: str, field: Any, spelling: str | None, panel: str | None) -> inspect.Parameter:
    kind, choices = _plain(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
    choices = next((mark.choices for mark in field.metadata if isinstance(mark, OneOf)), choices)
    default = field.get_default(call_default_factory=True)
    text = field.description or name.replace("_", " ").capitalize() + "."
    if choices:
        text += f" One of {', '.join(choices)}."
    if field.is_required():
        text += " [required]"
    elif default not in (None, {}, (), "") and kind is not bool:
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" [default: {shown}]"
    flag = spelling or "--" + name.replace("_", "-")
    # The command line is applied over the config file, so an option that is not given must be None, not its default.
    option = typer.Option(*flag.split(), help=text.replace("[", "\\["), show_default=False, rich_help_panel=panel)
    annotation = Annotated[Optional[kind], option]  # type: ignore[valid-type]  # noqa: UP045
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _plain(annotation: Any) -> tuple[Any, list[str]]:
    """The type typer parses, and the choices where the field has some.

    A tuple of fixed length takes as many values; files of any number are given by the option again and again, as a
    comma may stand in a name; other lists are one word.
    """
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and arguments[1:] == (Ellipsis,) and _plain(arguments[0])[0] is Path:
        return list[Path], []
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [a for a in arguments if a not in (type(None), Given)]  # a network is given in Python alone
        return _plain(inner[0]) if len(inner) == 1 else (str, [])
    if typing.get_origin(annotation) is Annotated:
        if any(isinstance(mark, Word) for mark in annotation.__metadata__):
            return str, ["True", "False"]
        return _plain(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is typing.Literal:
        return str, [str(a) for a in typing.get_args(annotation)]
    if typing.get_origin(annotation) is tuple and Ellipsis not in typing.get_args(annotation):
        return tuple[tuple(_plain(a)[0] for a in typing.get_args(annotation))], []  # type: ignore[misc]
    return (annotation, []) if annotation in (int, float, bool, str, Path) else (str, [])


def _parse(model: type[S], name: str, value: Any) -> Any:
    """Comma lists for tuples, JSON for tables."""
    annotation: Any = model.model_fields[name].annotation
    kinds = (annotation, *typing.get_args(annotation))  # `X | None` is a tuple or a table if X is
    origin = next((o for o in map(typing.get_origin, kinds) if o in (tuple, dict)), None)
    if isinstance(value, list):
        return tuple(value)
    if origin is tuple and isinstance(value, str):
        return tuple(v.strip() for v in value.split(","))
    if origin is dict and isinstance(value, str):
        try:
            return parse_json(value)
        except ValueError as error:
            raise UserError(f"--{name.replace('_', '-')} wants a JSON object, not {value!r}.") from error
    return value
