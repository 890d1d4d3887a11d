"""Returns? The counterfactuals are translated back with the run's own settings and models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cfdiff.data.values import unit
from cfdiff.edit.cast import Cast
from cfdiff.edit.control import NO_CONTROL, branch_beside, controlled
from cfdiff.edit.roles import load_cast
from cfdiff.edit.settings import HeldSettings
from cfdiff.edit.tiling import ImageEditor, editor_of, tiles_of
from cfdiff.errors import UserError
from cfdiff.evaluate.judge import Judge
from cfdiff.evaluate.models import models_of
from cfdiff.evaluate.origin import as_source, bundled_data, tiling
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics import minimality
from cfdiff.roles import ROLES
from cfdiff.store.runs import Run, open_run_for_good
from cfdiff.workers.crew import Crew


def the_way_back(s: EvaluateSettings, run: Run) -> ImageEditor:
    """An editor with the settings and the models that made the run.

    Raises:
        UserError: a bag edited jointly, or the models at hand are not those of the run.
    """
    if run.settings.get("mode") == "joint":
        raise UserError("--round-trip edits image by image, and these bags were edited jointly: leave it out.")
    if any(run.settings.get(name) is not None for name in ("to_text", "from_text")):
        raise UserError("--round-trip goes from class to class, and this run went by a text: leave it out.")
    if run.settings.get("control") == "mask":
        raise UserError("--round-trip has no masks of the data to tell the control branch of this run: leave it out.")
    kept = {name: run.settings[name] for name in HeldSettings.model_fields if name in run.settings}
    if s.weights is None and bundled_data(run) is None:
        raise UserError(f"--round-trip needs the models that made {run.path.name}: name their folder with --weights.")
    settings = HeldSettings(**{**kept, "weights": s.weights, "device": s.device, "threads": s.threads})
    cut = tiling(run)
    data = bundled_data(run) or run.settings["data"]
    cast: Cast = load_cast(settings, data, as_source(run), tiles_of(cut))
    if settings.control != NO_CONTROL and branch_beside(s.weights, data) is None:
        raise UserError(
            "--round-trip needs the control branch of this run as control.safetensors beside its models: put it there, "
            "or leave --round-trip out."
        )
    cast = controlled(cast, settings, data)
    for role in ROLES:
        here, own = cast.hashes.get(role), run.models.get(role)
        if role != "judge" and here != own:
            raise UserError(
                f"The {role} at hand is not the one that made {run.path.name} (another sha256): name the folder of its "
                "models with --weights."
            )
    return editor_of(cast, settings, tiles_of(cut), cut.every_tile)


@dataclass(frozen=True, eq=False)
class RoundTrip:
    """Translates counterfactuals back. A piece is the number of a batch and its rows."""

    run: Run
    editor: ImageEditor
    judge: Judge | None

    def __call__(self, piece: tuple[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """(B,) mean |x - x''|; with a judge, its p(target | x'')."""
        _, rows = piece
        run, editor = self.run, self.editor
        source, cf = run.read(rows)
        masks = None if run.masks is None or editor.s.mask != "data" else run.masks(rows)
        target = int(run.target[rows[0]])
        # An id of its own: the noise of the way there must not come again on the way back.
        edits = editor.edit(cf, [f"back/{name}" for name in run.ids[rows]], 1 - target, masks)
        change = minimality.mean_abs(unit(source), unit(edits.counterfactual))
        return change, None if self.judge is None else self.judge.predict(edits.counterfactual)[:, target]


def round_tripper(s: EvaluateSettings) -> RoundTrip:
    """A `RoundTrip` in a process of its own, which opens the run and the models."""
    run = open_run_for_good(s.run)
    return RoundTrip(run, the_way_back(s, run), models_of(s, run).judge)


def round_trip(there: RoundTrip, workers: Crew, batch: int, done: Callable[[int], None]) -> dict[str, np.ndarray]:
    """(N,) mean |x - x''|; with a judge, its p(target | x'')."""
    change, verdict = np.zeros(len(there.run)), np.zeros(len(there.run))
    for (_, rows), (changed, said) in workers.do(list(enumerate(there.run.batches(batch)))):
        change[rows] = changed
        if said is not None:
            verdict[rows] = said
        done(len(rows))
    back = {"round_trip/mean_abs_difference": change}
    return back if there.judge is None else {**back, "round_trip/p_target": verdict}
