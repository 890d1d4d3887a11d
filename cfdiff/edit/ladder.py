"""The ladder: what is tried for an image, weakest first, until the edit is accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cfdiff.edit.settings import EditSettings

RATIO_STEP, DEPTH_STEP = 1.5, 1.5
"""Each rung of the ladder is this much stronger, and each of the last two this much deeper."""


@dataclass(frozen=True)
class Rung:
    """One try: the scale of the guidance, its clamp and the depth."""

    scale: float
    ratio: float | None
    depth: float


def ladder(s: EditSettings) -> list[Rung]:
    """The first try and its retries, weakest first: ratio x 1.5 each (scale, where there is no clamp), then depth x 1.5
    each, with the last strengths again."""
    deeper = min(2, s.retries // 2) if s.depth < 1 else 0
    steps = [RATIO_STEP**k for k in range(s.retries - deeper + 1)]
    rungs = [
        Rung(s.scale * k, None, s.depth) if s.ratio is None else Rung(s.scale, s.ratio * k, s.depth) for k in steps
    ]
    last = rungs[-deeper:] if deeper else []
    return rungs + [replace(rung, depth=min(1.0, s.depth * DEPTH_STEP**k)) for k, rung in enumerate(last, 1)]
