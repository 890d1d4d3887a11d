"""One pass over the saved images: everything that is measured of a pair on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from cfdiff.data.values import unit
from cfdiff.evaluate.features import features_of
from cfdiff.evaluate.judge import Judge
from cfdiff.evaluate.models import Models, models_of
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics import faithfulness, localisation
from cfdiff.models.features import Extract
from cfdiff.registry import METRICS
from cfdiff.store.runs import Run, open_run_for_good
from cfdiff.workers.crew import Crew

FRACTIONS = "fractions"
Batch = tuple[int, np.ndarray]
"""Number of a batch, and its rows."""


@dataclass
class Measured:
    """Arrays whose rows follow the run's images.

    Attributes:
        values: name -> (N,) float64.
        curves: name -> (N, fractions + 1) float32; `fractions` (fractions + 1,) is their axis.
        features: (N, D) of sources and counterfactuals; None where not asked for.
        prob: name -> (N, 2 stages, 2) of each judge that was asked anew.
        maps: (N, H, W) float32 difference maps; None where not asked for.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    fractions: np.ndarray | None = None
    features: tuple[np.ndarray, np.ndarray] | None = None
    prob: dict[str, np.ndarray] = field(default_factory=dict)
    maps: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Measure:
    """What is measured of each pair, with the models of this process.

    Attributes:
        judges: whose probabilities; faithful: whose curves; extract: the features; None for none.
        maps: whether the difference maps are kept.
    """

    run: Run
    s: EvaluateSettings
    judges: dict[str, Judge]
    faithful: Judge | None
    extract: Extract | None
    maps: bool

    @classmethod
    def of(cls, run: Run, s: EvaluateSettings, models: Models, maps: bool) -> Measure:
        """What these models can measure. The judge whose probabilities the file holds is not asked for them again."""
        judges = {name: one for name, one in models.judges.items() if one.another or name != "judge"}
        extract = None if models.space is None else models.space.extract
        return cls(run, s, judges, models.faithful, extract, maps)

    def __call__(self, piece: Batch) -> dict[str, np.ndarray]:
        """Arrays by name whose rows follow those of the piece, and the fractions of the curves."""
        _, rows = piece
        stored = self.run.read(rows)
        source, cf = unit(stored[0]), unit(stored[1])
        here: dict[str, np.ndarray] = {name: np.asarray(METRICS[name].of(source, cf, self.s)) for name in METRICS}
        for name, judge in self.judges.items():
            here[f"prob/{name}"] = np.stack([judge.predict(stage) for stage in stored], axis=1)
        if self.faithful is not None:
            curves, here[FRACTIONS] = _faithful(source, cf, self.faithful, self.run.target[rows], self.s.fractions)
            here |= curves
        if self.extract is not None:
            here["features/source"], here["features/counterfactual"] = (features_of(self.extract, x) for x in stored)
        if self.maps:
            smoothed = localisation.difference_map(cf - source, self.s.smooth, self.s.relative)
            here["maps"] = smoothed.astype(np.float32)
        return here


def pair_measurer(s: EvaluateSettings, maps: bool) -> Measure:
    """A `Measure` in a process of its own, which opens the run and the models."""
    run = open_run_for_good(s.run)
    return Measure.of(run, s, models_of(s, run), maps)


def measure(measured: Measure, workers: Crew, done: Callable[[int], None]) -> Measured:
    """Have every pair read once; `done` is told after a batch."""
    batches = list(measured.run.batches(measured.s.batch_size))
    found: dict[int, dict[str, np.ndarray]] = {}
    for (number, rows), here in workers.do(list(enumerate(batches))):
        found[number] = here
        done(len(rows))
    back = np.argsort(np.concatenate(batches))
    parts = [found[number] for number in range(len(batches))]
    fractions = parts[0].get(FRACTIONS)
    joined = {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0] if name != FRACTIONS}
    prob = {name: joined.pop(f"prob/{name}") for name in measured.judges}
    out = Measured(fractions=fractions, prob=prob, maps=joined.pop("maps", None))
    if measured.extract is not None:
        out.features = joined.pop("features/source"), joined.pop("features/counterfactual")
    for name, values in joined.items():
        (out.curves if values.ndim == 2 else out.values)[name] = values
    return out


def _faithful(
    source: np.ndarray, cf: np.ndarray, judge: Judge, target: np.ndarray, steps: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """COUT, deletion and insertion of a batch: areas (B,) and curves (B, steps + 1); and the fractions."""
    original = 1 - target
    predict = partial(judge.predict, exact=False)
    c = faithfulness.cout(source, cf, predict, target, steps, original)
    importance = faithfulness.importance(source, cf)
    gone = faithfulness.deletion(source, importance, predict, original, steps)
    back = faithfulness.insertion(source, importance, predict, original, steps)
    arrays = {
        "cout": c.scores,
        "deletion": gone.scores,
        "insertion": back.scores,
        "curve/cout_target": c.target.astype(np.float32),
        "curve/cout_original": c.original.astype(np.float32),
        "curve/deletion": gone.curve.astype(np.float32),
        "curve/insertion": back.curve.astype(np.float32),
    }
    return arrays, c.fractions
