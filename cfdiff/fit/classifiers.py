"""The classifiers of a fit: which network each role has, what it sees, and in what light it learns."""

from __future__ import annotations

from typing import Any

from cfdiff.fit.plan import SECOND
from cfdiff.fit.space import scaled_for_classifiers, seen_by_diffusion
from cfdiff.roles import STEERING

ARCHITECTURES = {
    "guide": "ese_vovnet19b_slim",
    "checker": "ese_vovnet19b_slim",
    "verifier": "resnet14t",
    SECOND: "resnet14t",  # where it does not begin from the diffusion model
    "judge": "resnet14t",
}
"""What learned most in 3.4 minutes of one core, on defects of a few pixels (447 pairs of circuit boards; accuracy on
others): VoVNet .88, resnet14t .79, resnet10t .71, a narrow resnet18 .69, hgnetv2_b0 .62, regnetx_002 .55, dla34 .53.
The best steer; verifier and judge are of another kind than those, and of other groups than one another."""
LIGHT = {"gain": 0.3, "gamma": 0.3, "cast": 0.1}
"""So classifiers learn to look past the light, in which groups differ more than the classes of one group do: of road
segments that they never saw they knew 75 % in place of 68 % after the same 2.5 minutes of a core, and of four other
sets as much as before or more, within .002 (benchmarks/light.py). Twice as much, mixup, turns and zoom, with it or
alone, were not better both ways round (docs/training.md)."""


def begun(space: str) -> tuple[str, ...]:
    """The classifiers that are the way down of the fit's own diffusion model, and begin from it.

    Verifiers see pixels, so of a diffusion model of latents there are none.
    """
    return (SECOND,) if space == "pixel" else ()


def classifier_seen(role: str, space: str, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(h, w, c) that the classifier of a role sees of images (H, W, C): who steers sees what is diffused."""
    return seen_by_diffusion(space, shape) if role in STEERING else shape


def classifier_network(role: str, space: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Settings of `cfdiff train-classifier` that say which network learns images (H, W, C) from nothing."""
    return {"arch": ARCHITECTURES[role], **scaled_for_classifiers(classifier_seen(role, space, shape))}
