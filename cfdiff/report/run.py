"""cfdiff report: one HTML file that shows a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from cfdiff.data.raw import file_sha256
from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json
from cfdiff.report.bags import bag_context
from cfdiff.report.html.page import render
from cfdiff.report.html.tables import Table, evaluation_tables, plain
from cfdiff.report.images import image_context
from cfdiff.report.models import model_facts
from cfdiff.report.settings import ReportSettings
from cfdiff.store import open_result
from cfdiff.store.bags import open_bags
from cfdiff.store.output import check_output
from cfdiff.store.runs import Run, is_bag_file, open_run


@dataclass(frozen=True)
class ReportResult:
    """The page that was written, how many images (or bags, a bag at each mix) it shows, and of how many in the run."""

    page: Path
    shown: int
    of: int


def report(s: ReportSettings) -> ReportResult:
    """Write the page. It depends on the files that are named, on nothing else.

    Raises:
        UserError: the run, the evaluation, the masks or the models cannot be read, or the output not be written.
    """
    bags = is_bag_file(s.run)
    out = s.out or s.run.parent / f"{s.run.stem}.html"
    if s.out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"The report is a page, so {out.name!r} should end in .html: change --out.")
    check_output(out, s.force)
    evaluation = []
    if s.evaluation is not None:
        with open_run(s.run) as run:
            evaluation = read_evaluation(s.evaluation, run)
    if bags:
        if s.masks is not None:
            raise UserError("A report of bags outlines no masks: leave --masks out.")
        with open_bags(s.run) as file:
            settings, models = file.settings, file.attrs["models"]
            context, of = bag_context(file, s), len(file)
    else:
        with open_result(s.run) as result:
            settings, models = result.settings, result.attrs["models"]
            context, of = image_context(result, s), len(result)
    sections = [*context.pop("sections"), *([("evaluation", "Evaluation")] if evaluation else [])]
    page = render(
        "bags" if bags else "images",
        file=s.run.name,
        sections=[*sections, ("made", "How it was made")],
        evaluation=evaluation,
        models=model_facts(models, s.weights, settings.get("classifiers", {})),
        settings=[
            (name, plain(value)) for name, value in sorted(settings.items()) if name not in ("models", "classifiers")
        ],
        **context,
    )
    with atomic(out) as scratch:
        scratch.write_text(page, encoding="utf-8", errors="backslashreplace")  # a name of a file may be no text
    return ReportResult(out, len(context["data"]["bags" if bags else "cards"]), of)


class _Section(BaseModel):
    question: str
    figures: dict[str, dict[str, Any]]


class _Evaluation(BaseModel):
    """What of cfdiff evaluate's JSON the page relies on."""

    format: Literal["cfdiff-evaluation"]
    format_version: Literal[1]
    result: str
    result_sha256: str
    direction: str
    images: int
    sections: dict[str, _Section]


def read_evaluation(path: Path, run: Run) -> list[Table]:
    """The tables of a JSON file that cfdiff evaluate wrote of this very run.

    Raises:
        UserError: it cannot be read, is something else, or is of another run.
    """
    try:
        figures: Any = parse_json(path.read_text(encoding="utf-8"))
        found = _Evaluation.model_validate(figures)
    except OSError as error:
        raise UserError(f"The evaluation {path.name!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path.name!r} is no evaluation: give the JSON that cfdiff evaluate --out wrote.") from error
    if found.result_sha256 != file_sha256(run.path):
        raise UserError(
            f"{path.name!r} is the evaluation of another run, {found.result} ({found.direction}, {found.images} "
            f"images), or of {run.path.name} before it was made anew: run cfdiff evaluate on it."
        )
    return evaluation_tables(figures)
