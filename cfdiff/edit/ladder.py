"""The ladder: what is tried for an image, weakest first, until the edit is accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cfdiff.edit.settings import EditSettings
from cfdiff.engine import NoiseSchedule, make_tau

STRENGTH_STEP, DEPTH_STEP = 1.5, 1.5
"""Each rung of the ladder is this much stronger, and each of the last two this much deeper."""
MASS_STEP = 1.75
"""Each draw of the regenerating edit is in a place that holds so much more of the saliency."""
DRAWS_A_ROUND = 3
"""Draws that grow, before they begin again."""
DEEPEST = 0.85
"""No rung goes deeper by itself. Beyond, x0_hat is the network's error times 1 / sqrt(ab): 4 times at 0.85 of a cosine
schedule, 6 at 0.9, thousands at 1. Edits from there were noise of full contrast, which verifiers took for a class."""


@dataclass(frozen=True)
class Rung:
    """One try: the scale of the guidance, its clamp and the depth.

    Attributes:
        confidence: the checker's, at which the closed loop stops; None for that of the settings.
        draw: number of the noise that is drawn anew, where a way of editing draws any.
        share: of the pixels that it may change, before they are dilated, where it looks for the place itself.
        mass: in place of the share, that of the saliency which these pixels are to hold.
    """

    scale: float
    ratio: float | None
    depth: float
    confidence: float | None = None
    draw: int = 0
    share: float = 1.0
    mass: float | None = None


DOUBT_STEP = 0.25
"""Where a verifier accepts, each rung asks the checker for that share of the doubt of the one before: else the closed
loop would stop where it had stopped, and a rung would repeat the one before it."""


def ladder(s: EditSettings, verified: bool = False) -> list[Rung]:
    """The first try and its retries, weakest first: 1.5 x stronger each, then 1.5 x deeper with the last strengths, but
    not beyond `DEEPEST`.

    Scale and clamp rise together, since the strength is the smaller of the two: where only one rose, a rung under the
    other would repeat the one before it to the bit. Without guidance (scale 0) all rungs would be one.
    """
    if s.scale == 0:
        return [Rung(0.0, s.ratio, s.depth)]

    def asked(k: int) -> float | None:
        return 1 - (1 - s.target) * DOUBT_STEP**k if verified else None

    deeper = min(2, s.retries // 2) if s.depth < DEEPEST else 0
    rungs = [
        Rung(s.scale * k, None if s.ratio is None else s.ratio * k, s.depth, asked(i))
        for i, k in enumerate(STRENGTH_STEP**i for i in range(s.retries - deeper + 1))
    ]
    last = rungs[-deeper:] if deeper else []
    return rungs + [
        replace(rung, depth=min(DEEPEST, s.depth * DEPTH_STEP**k), confidence=asked(len(rungs) - 1 + k))
        for k, rung in enumerate(last, 1)
    ]


def tau_of(schedule: NoiseSchedule, s: EditSettings, depth: float) -> list[int]:
    """tau up to `depth`, as it is encoded: deeper rungs keep the number of steps. UserError where there are too few
    levels for them."""
    return make_tau(schedule, depth, s.steps * s.encode_per_step, s.spacing)


def redraws(s: EditSettings, verified: bool = False) -> list[Rung]:
    """The tries of the regenerating edit: `redraws` of them, each from other noise, stronger and in more of the image.

    The first draw is what the settings say; what it does not convince by, luck, strength or place must. After
    `DRAWS_A_ROUND` they begin again, from other noise: what is larger still would be another image.
    """
    if s.scale == 0:
        return [Rung(0.0, s.redraw_ratio, s.redraw_depth, share=s.redraw_share, mass=s.redraw_mass)]
    return [
        Rung(
            s.scale * STRENGTH_STEP**k,
            None if s.redraw_ratio is None else s.redraw_ratio * STRENGTH_STEP**k,
            s.redraw_depth,
            1 - (1 - s.target) * DOUBT_STEP**k if verified else None,
            draw=draw,
            share=min(1.0, s.redraw_share * STRENGTH_STEP**k),
            mass=None if s.redraw_mass is None else min(1.0, s.redraw_mass * MASS_STEP**k),
        )
        for draw, k in ((draw, draw % DRAWS_A_ROUND) for draw in range(s.redraws))
    ]
