"""The check of the space that the diffusion model runs in: what an image loses on the way there and back."""

from __future__ import annotations

import torch

from cfdiff.data.values import to_model, to_saved, unit
from cfdiff.doctor.context import Context
from cfdiff.doctor.lines import Line
from cfdiff.edit.cast import probabilities
from cfdiff.metrics.fidelity import fidelity
from cfdiff.roles import WITNESSES

PSNR, KEPT = 25.0, 0.95
"""Under the first, in dB, images are blurred to the eye; under the second, a share, classes are lost."""


def autoencoder(context: Context) -> list[Line]:
    """D(E(x)) of the images: PSNR, SSIM, and the share of the verdicts of the most independent classifier that stay.

    An edit x + D(z') - D(z) keeps what D cannot draw, but what E drops neither guide nor diffusion model ever sees.
    """
    cast, x0 = context.cast, context.x0
    back = context.batches(cast.space.decode, context.z0)
    if torch.equal(x0, back):  # pixels
        return []
    saved = to_saved(back, context.stored.dtype)
    figures = fidelity(unit(context.stored), unit(saved))
    shown = f"draws the images at {figures['psnr']:.1f} dB, SSIM {figures['ssim']:.3f}"
    judge = next((role for role in WITNESSES if role in context.fitting), None)
    if judge is not None:
        seen = [
            probabilities(context.fitting[judge], x, exact=False).argmax(1) for x in (x0, to_model(saved).to(x0.device))
        ]
        figures["verdicts_kept"] = float((seen[0] == seen[1]).float().mean())
        shown += f"; the {judge} sees {figures['verdicts_kept']:.1%} of them in the same class as before"
    if figures["psnr"] >= PSNR and figures.get("verdicts_kept", 1.0) >= KEPT:
        return [Line("autoencoder", "ok", shown, values=figures)]
    advice = (
        "What it loses no edit in latents can show: train it longer, or with more channels (cfdiff train-autoencoder "
        "--latent), or work in pixels."
    )
    return [Line("autoencoder", "warn", shown, advice, figures)]
