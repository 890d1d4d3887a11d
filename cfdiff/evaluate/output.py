"""The files that evaluate writes: checked before anything is computed, written at the end."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cfdiff.errors import UserError
from cfdiff.evaluate.images import Measured
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.files import atomic, is_there
from cfdiff.store import check_output
from cfdiff.store.evaluation import write_evaluation
from cfdiff.store.runs import Run

INPUTS = ("threshold_from", "data", "splits", "masks", "reference", "feature_weights")


def check_outputs(s: EvaluateSettings) -> None:
    """Raise UserError unless --out and --save can be written and are none of the files that are read."""
    for path, suffix, option in ((s.out, ".json", "--out"), (s.save, ".h5", "--save")):
        if path is not None:
            _check(path, suffix, option, s)


def _check(path: Path, suffix: str, option: str, s: EvaluateSettings) -> None:
    if path.suffix != suffix:
        raise UserError(f"{option} {path.name!r} should end in {suffix}.")
    inputs = {"the run itself": s.run}
    inputs |= {f"the file of --{name.replace('_', '-')}": getattr(s, name) for name in INPUTS}
    inputs |= {f"the judge {judge.name}": judge for judge in s.judge if isinstance(judge, Path)}
    for what, given in inputs.items():
        if given is not None and path.exists() and is_there(Path(given)) and path.samefile(given):
            raise UserError(f"{option} {path.name} is {what}: choose another name.")
    check_output(path, s.force, option)


def write(s: EvaluateSettings, run: Run, measured: Measured, result: dict[str, Any]) -> None:
    """--out and --save, where they are asked for: both or, where one has no room, neither."""
    with ExitStack() as until_both:
        if s.out is not None:
            until_both.enter_context(atomic(s.out)).write_text(json.dumps(result, indent=1) + "\n")
        if s.save is not None:
            _save(s.save, run, measured, result)


def _save(path: Path, run: Run, measured: Measured, result: dict[str, Any]) -> None:
    arrays = {"id": run.ids.astype(str), "target": run.target, **measured.values, **measured.curves}
    if run.groups is not None:
        arrays["group"] = run.groups.astype(str)
    if measured.fractions is not None:
        arrays["curve/fractions"] = measured.fractions
    write_evaluation(path, arrays, result)
