"""cfdiff train-autoencoder, train-diffusion, train-classifier, train-clip, train-control and adapt."""

from __future__ import annotations

from cfdiff.cli.options import command
from cfdiff.train.settings import (
    AdaptSettings,
    AutoencoderSettings,
    ClassifierSettings,
    ClipSettings,
    ControlSettings,
    DiffusionSettings,
)


@command(
    AutoencoderSettings,
    "Train the autoencoder of a latent space; the same command again continues where it stopped.",
    names={"half": "--half/--full"},
)
def train_autoencoder(settings: AutoencoderSettings) -> None:
    from cfdiff.train.autoencoder import train_autoencoder as run

    run(settings)


@command(
    DiffusionSettings,
    "Train the diffusion model; the same command again continues where it stopped.",
    names={"half": "--half/--full"},
)
def train_diffusion(settings: DiffusionSettings) -> None:
    from cfdiff.train.diffusion import train_diffusion as run

    run(settings)


@command(
    ClassifierSettings,
    "Train a guide (--noisy, the default) or a checker or judge (--clean): any timm model, or one that begins from a "
    "diffusion model (--init).",
    names={
        "noisy": "--noisy/--clean",
        "half": "--half/--full",
        "calibrate": "--calibrate",
        "intercept": "--intercept",
    },
)
def train_classifier(settings: ClassifierSettings) -> None:
    from cfdiff.train.classifier import train_classifier as run

    run(settings)


@command(
    AdaptSettings,
    "Adapt a diffusion model to a new laboratory by a few images; the same command again continues where it stopped.",
    names={"half": "--half/--full", "low_rank": "--low-rank/--all-weights"},
)
def adapt(settings: AdaptSettings) -> None:
    from cfdiff.train.adapt import adapt as run

    run(settings)


@command(
    ClipSettings,
    "Train an image-text model on images and their captions (docs/clip.md): a guide, a zero-shot judge.",
    names={"half": "--half/--full"},
)
def train_clip(settings: ClipSettings) -> None:
    from cfdiff.train.clip import train_clip as run

    run(settings)


@command(
    ControlSettings,
    "Train a control branch, which keeps lines of an image where they are (docs/conditions.md); the denoiser "
    "stays as it is.",
    names={"half": "--half/--full"},
)
def train_control(settings: ControlSettings) -> None:
    from cfdiff.train.control import train_control as run

    run(settings)
