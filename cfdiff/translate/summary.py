"""The figures of a finished result: all samples, from the saved values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.data.values import mean_change
from cfdiff.metrics.intervals import mean_interval, wilson
from cfdiff.store import open_result


def summarise(path: Path, batch: int = 256) -> dict[str, Any]:
    """Images, flips by judge and checker with intervals, mean |difference| in [0, 1] units, calls an image."""
    with open_result(path) as r:
        n, target = len(r), r["target"][:]
        batches = [slice(i, i + batch) for i in range(0, n, batch)]
        change = np.concatenate([mean_change(r.source[b], r.counterfactual[b]) for b in batches])
        figures: dict[str, Any] = {
            "result": path.name,
            "direction": r.attrs["direction"],
            "images": n,
            "mean_abs_difference": float(change.mean()),
            "mean_abs_difference_95": mean_interval(change),
            "network_calls": float(r["guidance/network_calls"][:].mean()),
            "guide_calls": float(r["guidance/guide_calls"][:].mean()),
            "retried": float((r["guidance/retries"][:] > 0).mean()),
            "quarantined": int(r.quarantined.sum()),
        }
        for who in ("judge", "checker"):
            if f"prob/{who}" in r:
                p = r.prob(who)[np.arange(n), :, target]
                flipped = (p[:, 1] > 0.5) & ~r.quarantined
                figures[f"flipped_{who}"] = float(flipped.mean())
                figures[f"flipped_{who}_95"] = wilson(int(flipped.sum()), n)
                figures[f"target_before_{who}"] = float((p[:, 0] > 0.5).mean())
        return figures
