"""The page: templates, style and script joined into one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cfdiff.version import __version__


def render(kind: str, **context: Any) -> str:
    """The HTML of a report of `images` or `bags`; every value of the context is escaped where it stands.

    Only our own script runs: the page's Content-Security-Policy names its hash, and forbids every request.
    """
    script, css = _own("report.js"), _own("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # Our own files are the only text that is not escaped.
    return (
        _environment()
        .get_template(f"{kind}.html.j2")
        .render(
            kind=kind,
            version=__version__,
            css=Markup(css),  # noqa: S704
            script=Markup(script),  # noqa: S704
            script_hash=f"sha256-{digest}",
            **context,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cfdiff.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}  # the judge comes first
    return environment


def _own(name: str) -> str:
    return files("cfdiff.report.html").joinpath("templates", name).read_text(encoding="utf-8")
