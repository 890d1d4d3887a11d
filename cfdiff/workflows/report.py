"""cfdiff report: one HTML file that shows a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cfdiff.errors import UserError
from cfdiff.report.page import render
from cfdiff.report.tables import Table, evaluation_tables, plain
from cfdiff.store import open_result
from cfdiff.store.bags import open_bags
from cfdiff.store.files import atomic, check_output
from cfdiff.workflows.evaluate_run import is_bag_file
from cfdiff.workflows.report_bags import bag_context
from cfdiff.workflows.report_images import image_context
from cfdiff.workflows.report_models import model_facts
from cfdiff.workflows.report_settings import ReportSettings


def report(s: ReportSettings) -> Path:
    """Write the page; its path. It depends on the files that are named, on nothing else.

    Raises:
        UserError: the run, the evaluation, the masks or the models cannot be read, or the output not be written.
    """
    out = s.out or s.run.with_suffix(".html")
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"The report is a page, so {out.name!r} should end in .html: change --out.")
    bags = is_bag_file(s.run)
    check_output(out, s.force)
    evaluation = [] if s.evaluation is None else read_evaluation(s.evaluation)
    if bags:
        if s.masks is not None:
            raise UserError("A report of bags outlines no masks: leave --masks out.")
        with open_bags(s.run) as file:
            settings, models = file.settings, json.loads(file.attrs["models"])
            context = bag_context(file, s)
    else:
        with open_result(s.run) as result:
            settings, models = result.settings, result.attrs["models"]
            context = image_context(result, s)
    sections = [*context.pop("sections"), *([("evaluation", "Evaluation")] if evaluation else [])]
    page = render(
        "bags" if bags else "images",
        file=s.run.name,
        sections=[*sections, ("made", "How it was made")],
        evaluation=evaluation,
        models=model_facts(models, s.weights),
        settings=[(name, plain(value)) for name, value in sorted(settings.items()) if name != "models"],
        **context,
    )
    with atomic(out) as scratch:
        scratch.write_text(page, encoding="utf-8")
    return out


def read_evaluation(path: Path) -> list[Table]:
    """The tables of a JSON file of cfdiff evaluate."""
    try:
        figures: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The evaluation {path.name!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"The evaluation {path.name!r} is no JSON: give what cfdiff evaluate --out wrote.") from error
    if not isinstance(figures, dict):
        raise UserError(f"The evaluation {path.name!r} holds no JSON object: give what cfdiff evaluate --out wrote.")
    return evaluation_tables(figures)
