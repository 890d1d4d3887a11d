"""One pass over the saved images: everything that is measured of a pair on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from cfdiff.data.values import to_model, unit
from cfdiff.evaluate.judge import Judge
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.metrics import faithfulness, localisation
from cfdiff.models.features import Extract
from cfdiff.registry import METRICS
from cfdiff.store.runs import Run


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


def measure(
    run: Run,
    s: EvaluateSettings,
    *,
    judges: dict[str, Judge],
    faithful: Judge | None,
    extract: Extract | None,
    maps: bool,
    done: Callable[[int], None],
) -> Measured:
    """Read every pair once. `judges`: their probabilities; `faithful`: this judge's curves; `done`: after a batch."""
    pieces: dict[str, list[np.ndarray]] = {}
    order = []
    fractions = None
    for rows in run.batches(s.batch_size):
        stored = run.read(rows)
        source, cf = unit(stored[0]), unit(stored[1])
        here: dict[str, np.ndarray] = {name: np.asarray(METRICS[name].of(source, cf, s)) for name in METRICS}
        for name, judge in judges.items():
            here[f"prob/{name}"] = np.stack([judge.predict(stage) for stage in stored], axis=1)
        if faithful is not None:
            curves, fractions = _faithful(source, cf, faithful, run.target[rows], s.fractions)
            here |= curves
        if extract is not None:
            here["features/source"], here["features/counterfactual"] = (features_of(extract, x) for x in stored)
        if maps:
            here["maps"] = localisation.difference_map(cf - source, s.smooth, s.relative).astype(np.float32)
        for name, values in here.items():
            pieces.setdefault(name, []).append(values)
        order.append(rows)
        done(len(rows))
    back = np.argsort(np.concatenate(order))
    joined = {name: np.concatenate(parts)[back] for name, parts in pieces.items()}
    prob = {name: joined.pop(f"prob/{name}") for name in judges}
    out = Measured(fractions=fractions, prob=prob, maps=joined.pop("maps", None))
    if extract is not None:
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


@torch.no_grad()
def features_of(extract: Extract, images: np.ndarray) -> np.ndarray:
    """(B, D) float32 of stored images."""
    return extract(to_model(images)).cpu().numpy()
