"""The guides that an edit may be steered by; their gradients add. The names stand in cfdiff.registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cfdiff.edit.cast import Cast
from cfdiff.edit.settings import EditSettings
from cfdiff.engine import ClassifierFree, Guide, NoisyGuide, TweedieGuide
from cfdiff.engine.joint import JointGuide, JointTweedieGuide, Posterior
from cfdiff.engine.symmetry import Symmetry
from cfdiff.errors import UserError
from cfdiff.models.calibration import temperature_at


@dataclass(frozen=True)
class GuideKind:
    """An entry of registry.GUIDES.

    Attributes:
        role: of the model that it needs.
        make: the guide of single images; UserError where the model is there and cannot steer so.
        joint: the guide of whole bags, which is told what is asked of the bag; None where there is none.
        backward: with --exact, each gradient passes through the diffusion network once more.
        calls: how often each gradient asks the diffusion network besides.
    """

    role: str
    make: Callable[[Cast, EditSettings], Guide]
    joint: Callable[[Cast, EditSettings, Posterior], Guide] | None = None
    backward: bool = False
    calls: Callable[[EditSettings], int] = lambda s: 0

    def calls_a_gradient(self, s: EditSettings) -> int:
        """Calls of the diffusion network that a gradient takes; a pass back through it is counted as one."""
        return self.calls(s) + int(s.exact and self.backward)


def _noisy(cast: Cast, s: EditSettings) -> Guide:
    return NoisyGuide(cast.guide_log_prob, max_level=cast.guide_max_level, views=_views(cast, s))


def _noisy_joint(cast: Cast, s: EditSettings, posterior: Posterior) -> Guide:
    assert cast.guide is not None
    training = cast.guide.card.training
    return JointGuide(
        cast.guide_log_prob,
        posterior,
        s.batch,
        temperature=lambda level: temperature_at(training, level),
        max_level=cast.guide_max_level,
    )


def _clean(cast: Cast, s: EditSettings) -> Guide:
    return TweedieGuide(cast.schedule, cast.clean_log_prob, exact=s.exact, denoise=cast.denoise, views=_views(cast, s))


def _views(cast: Cast, s: EditSettings) -> Symmetry:
    """Mirror images in which a guide is asked, one a level; a mirrored latent is not that of the mirrored image."""
    return s.views if cast.space.discrete else "none"


def _clean_joint(cast: Cast, s: EditSettings, posterior: Posterior) -> Guide:
    return JointTweedieGuide(cast.schedule, cast.clean_log_prob, posterior, s.batch)


def _cfg(cast: Cast, s: EditSettings) -> Guide:
    if not cast.denoise.conditional:
        raise UserError(
            f"--guides {s.guides} needs a diffusion model that knows the classes, and {cast.diffusion.name!r} does "
            "not: train one with --condition class (or attributes, or text), or leave cfg out."
        )
    if s.texts == (None, None) and not cast.diffusion.knows_classes:
        raise UserError(
            f"--guides {s.guides} leads from one class to the other, and {cast.diffusion.name!r} has the same words "
            "for both: say in words what the image is to be (translate --to-text, generate --text), or leave cfg out."
        )
    # Guidance multiplies by the scale, so this makes w the weight; the ladder then raises both alike.
    weight = s.w / s.scale if s.scale else 0.0
    return ClassifierFree(cast.schedule, cast.denoise, weight, eps_is_source=s.base == "source")


NOISY = GuideKind("guide", _noisy, _noisy_joint)
"""The noise-aware classifier on x_l: it knows the way at high noise."""
CLEAN = GuideKind("checker", _clean, _clean_joint, backward=True)
"""The clean classifier on the estimate x0_hat: it knows the way at low noise."""
CFG = GuideKind("diffusion", _cfg, calls=lambda s: 1 if s.base == "source" else 2)
"""The classifier that a class-conditional diffusion model implies: classifier-free guidance, at every level."""
