"""The ladder: what is tried for an image, weakest first, until the edit is accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cfdiff.edit.settings import EditSettings

STRENGTH_STEP, DEPTH_STEP = 1.5, 1.5
"""Each rung of the ladder is this much stronger, and each of the last two this much deeper."""


@dataclass(frozen=True)
class Rung:
    """One try: the scale of the guidance, its clamp and the depth."""

    scale: float
    ratio: float | None
    depth: float


def ladder(s: EditSettings) -> list[Rung]:
    """The first try and its retries, weakest first: 1.5 x stronger each, then 1.5 x deeper with the last strengths.

    Scale and clamp rise together, since the strength is the smaller of the two: where only one rose, a rung under the
    other would repeat the one before it to the bit. Without guidance (scale 0) all rungs would be one.
    """
    if s.scale == 0:
        return [Rung(0.0, s.ratio, s.depth)]
    deeper = min(2, s.retries // 2) if s.depth < 1 else 0
    rungs = [
        Rung(s.scale * k, None if s.ratio is None else s.ratio * k, s.depth)
        for k in (STRENGTH_STEP**i for i in range(s.retries - deeper + 1))
    ]
    last = rungs[-deeper:] if deeper else []
    return rungs + [replace(rung, depth=min(1.0, s.depth * DEPTH_STEP**k)) for k, rung in enumerate(last, 1)]
