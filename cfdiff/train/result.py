"""What a training returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cfdiff.models.checkpoint import read_card


@dataclass(frozen=True)
class TrainResult:
    """A trained model and its last validation, as its card tells them; None where it was not measured.

    Attributes:
        model: the file.
        step, minutes: how long it was trained; loss: the running mean of the training loss then.
        val_loss: L_simple of a diffusion model, cross-entropy of a classifier; val_loss_by_level: from level, "200+".
        val_loss_told_class: val_loss of a conditional diffusion model that is told the class of each image that has
            one; val_loss is that of the same images when it is told nothing. val_loss_told: the same of one that is
            told words, the image's own.
        val_loss_old: of an adapted diffusion model, on the data that it was trained on before; val_loss_before and
            val_loss_old_before: what they were then.
        val_accuracy: balanced, on clean images; val_accuracy_by_level: of a guide, by noise level.
        bits_per_dim: variational bound of a diffusion model of pixels.
        psnr, ssim: of an autoencoder's images, in dB, and beside the originals; verdicts_kept: the share of them that
            --judge sees in the class in which it sees the original. Its val_loss is the loss of the pixels alone.
        val_auroc, val_mae, val_tau: of a bag model: area under the ROC curve of its bags, mean error of the fraction
            of positives, Kendall's tau-b with it.
        val_image_to_text, val_text_to_image: of an image-text model, shares of right ones at the first place, and
            val_chance_to_text, val_chance_to_image what chance gives; its val_accuracy is zero-shot.
        val_images: how many were looked at, where time was short.
    """

    model: Path
    step: int
    minutes: float
    loss: float | None = None
    val_loss: float | None = None
    val_loss_by_level: dict[str, float] | None = None
    val_loss_told_class: float | None = None
    val_loss_told: float | None = None
    val_loss_old: float | None = None
    val_loss_before: float | None = None
    val_loss_old_before: float | None = None
    val_accuracy: float | None = None
    val_accuracy_by_level: dict[str, float] | None = None
    bits_per_dim: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    verdicts_kept: float | None = None
    val_auroc: float | None = None
    val_mae: float | None = None
    val_tau: float | None = None
    val_image_to_text: float | None = None
    val_text_to_image: float | None = None
    val_chance_to_text: float | None = None
    val_chance_to_image: float | None = None
    val_images: int | None = None

    @classmethod
    def of(cls, model: Path) -> TrainResult:
        """What the card of a trained model says."""
        told = read_card(model).training["validation"]
        return cls(model, **{f.name: told.get(f.name) for f in fields(cls) if f.name != "model"})

    def figures(self) -> dict[str, Any]:
        """What was measured, as the card has it."""
        return {key: value for key, value in asdict(self).items() if value is not None and key != "model"}
