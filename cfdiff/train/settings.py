"""The settings of the trainings. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from cfdiff.registry import CONTROLS, SPACES, OneOf
from cfdiff.settings import DATA, MODEL, OPTIMISATION, OUTPUT, RUN, DataSettings

AUTOENCODER = "Of --space latent: a file of cfdiff train-autoencoder, or a folder of a diffusers VAE."


class TrainSettings(DataSettings):
    """What all trainings share."""

    split: str | None = Field(
        None,
        description="Split to train on [default: train or train-guide where there is one, else all].",
        json_schema_extra=DATA,
    )
    val_split: str | None = Field(
        None,
        description="Split to validate on [default: the data's own, or a tenth of the groups].",
        json_schema_extra=DATA,
    )
    out: Path | None = Field(
        None,
        description="Folder for the model, log, samples and state [default: runs/ROLE-DATA].",
        json_schema_extra=OUTPUT,
    )
    steps: PositiveInt = Field(20_000, description="Optimiser steps.", json_schema_extra=OPTIMISATION)
    max_minutes: PositiveFloat | None = Field(
        None, description="Stop after this time; the rate falls to zero by then.", json_schema_extra=OPTIMISATION
    )
    batch_size: PositiveInt = Field(
        64, description="Images a step, over all processes.", json_schema_extra=OPTIMISATION
    )
    accumulate: PositiveInt = Field(
        1, description="Split each batch into this many passes.", json_schema_extra=OPTIMISATION
    )
    lr: PositiveFloat = Field(1e-3, description="Highest learning rate (AdamW).", json_schema_extra=OPTIMISATION)
    weight_decay: NonNegativeFloat = Field(0.01, description="Weight decay (AdamW).", json_schema_extra=OPTIMISATION)
    warmup: NonNegativeInt = Field(
        200, description="Steps of linear warm-up; a cosine to zero follows.", json_schema_extra=OPTIMISATION
    )
    clip: PositiveFloat = Field(1.0, description="Largest gradient norm.", json_schema_extra=OPTIMISATION)
    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are what is saved.",
        json_schema_extra=OPTIMISATION,
    )
    augment: Literal["none", "flip", "dihedral"] = Field(
        "dihedral", description="Random flips, or flips and quarter turns.", json_schema_extra=OPTIMISATION
    )
    precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="Autocast of the network.", json_schema_extra=RUN
    )
    eval_every: PositiveInt = Field(
        500, description="Steps between validations, samples and saved models.", json_schema_extra=OUTPUT
    )
    val_limit: PositiveInt = Field(512, description="Images of a validation.", json_schema_extra=OUTPUT)
    half: bool | None = Field(
        None,
        description="Save the weights in float16, or in float32 [default: float16, or as in the diffusion model's file "
        "that the training begins from].",
        json_schema_extra=OUTPUT,
    )
    device: str = Field("auto", description="auto, cpu, cuda or mps.", json_schema_extra=RUN)
    threads: PositiveInt | None = Field(None, description="CPU threads [default: all].", json_schema_extra=RUN)
    seed: NonNegativeInt = Field(
        0, description="Of the initial weights, the batches and the noise.", json_schema_extra=RUN
    )
    force: bool = Field(
        False, description="Start anew where the folder holds another training.", json_schema_extra=OUTPUT
    )


class DiffusionSettings(TrainSettings):
    """cfdiff train-diffusion."""

    space: Annotated[str, OneOf(SPACES)] = Field("pixel", description="Where it runs.", json_schema_extra=MODEL)
    autoencoder: Path | None = Field(None, description=AUTOENCODER, json_schema_extra=MODEL)
    parametrisation: Literal["eps", "x0", "v"] = Field(
        "v",
        description="What the network predicts; the loss is that of the noise for all. With v the noise goes past the "
        "network, which a small one carries badly (docs/training.md).",
        json_schema_extra=MODEL,
    )
    condition: Literal["none", "class", "attributes", "text"] = Field(
        "none",
        description="What the network may be told besides: nothing, the image's class, a table of attributes, or a "
        "text; the last two are tokens that it reads by cross-attention (docs/conditions.md).",
        json_schema_extra=MODEL,
    )
    image_text: Path | None = Field(
        None,
        description="Of --condition text: whose text tower reads, a file of cfdiff train-clip or a folder of a CLIP "
        "model. It is frozen, and travels in the model's file.",
        json_schema_extra=MODEL,
    )
    token_width: PositiveInt = Field(
        64, le=16384, description="Of --condition attributes: numbers of a token.", json_schema_extra=MODEL
    )
    captions: Path | None = Field(
        None,
        description="Of --condition text and attributes: CSV with id,caption, and columns of attributes, of every "
        "image [default: as cfdiff data captions makes them].",
        json_schema_extra=DATA,
    )
    columns: str | None = Field(
        None,
        description="Of --condition attributes: which columns, of --captions or of what is measured, and of the data, "
        "as class,stage,brightness [default: all that say something, but those of the data].",
        json_schema_extra=DATA,
    )
    texts: str | None = Field(
        None,
        description="Of --condition text: what the two classes are called, as 'NEGATIVE|POSITIVE' [default: as the "
        "image-text model calls them, else by their names].",
        json_schema_extra=DATA,
    )
    init: Path | None = Field(
        None,
        description="Own diffusion model that it begins from, with its shape, schedule and parametrisation: "
        "one without a condition may be taught one.",
        json_schema_extra=MODEL,
    )
    distil: PositiveInt | None = Field(
        None,
        description="Of --init: learn to do in one of so many steps of the whole schedule what that model does in two "
        "(progressive distillation), for edits with fewer steps; halve it and begin from the result to go on.",
        json_schema_extra=OPTIMISATION,
    )
    schedule: Literal["linear", "cosine"] = Field("cosine", description="Noise schedule.", json_schema_extra=MODEL)
    T: PositiveInt = Field(1000, description="Noising steps.", json_schema_extra=MODEL)
    patch: PositiveInt = Field(
        2, description="Pixels per side folded into channels at the entrance.", json_schema_extra=MODEL
    )
    width: PositiveInt = Field(48, description="Channels at the first resolution.", json_schema_extra=MODEL)
    mult: tuple[PositiveInt, ...] | None = Field(
        None,
        description="Channel multiplier of each resolution [default: 1,2,3, or as far as the size can be halved].",
        json_schema_extra=MODEL,
    )
    blocks: PositiveInt = Field(1, description="Residual blocks per resolution.", json_schema_extra=MODEL)
    attention: tuple[PositiveInt, ...] = Field(
        (2, 4), description="Downsampling factors with self-attention.", json_schema_extra=MODEL
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in the residual blocks.", json_schema_extra=MODEL)
    val_limit: PositiveInt = Field(192, description="Images of a validation.", json_schema_extra=OUTPUT)
    drop: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="Share of images that nothing is told of, with --condition.",
        json_schema_extra=OPTIMISATION,
    )
    clauses: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of the attributes, or of a caption's clauses after the first, that are left out: less may "
        "then be said.",
        json_schema_extra=OPTIMISATION,
    )
    level_power: PositiveFloat = Field(
        1.0, description="Levels are drawn as T u^power: above 1 dwells at low noise.", json_schema_extra=OPTIMISATION
    )
    ema: float = Field(
        0.9995,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are what is saved.",
        json_schema_extra=OPTIMISATION,
    )


class AdaptSettings(TrainSettings):
    """cfdiff adapt."""

    diffusion: Path = Field(description="Model file that is adapted.", json_schema_extra=MODEL)
    images: PositiveInt = Field(
        30, description="New images that it learns from; the others validate it.", json_schema_extra=DATA
    )
    rank: NonNegativeInt = Field(
        8, description="Rank of what is added to each weight; 0 changes nothing.", json_schema_extra=MODEL
    )
    low_rank: bool = Field(
        True,
        description="Train additions of low rank to the weights, or all weights themselves.",
        json_schema_extra=MODEL,
    )
    prior: NonNegativeFloat = Field(
        1.0,
        description="Weight of what is not to be forgotten: the loss on images of the model's own.",
        json_schema_extra=OPTIMISATION,
    )
    prior_images: PositiveInt = Field(
        64, description="How many those are, drawn before the training.", json_schema_extra=OPTIMISATION
    )
    old: str | None = Field(
        None,
        description="Data that the model was trained on: prior images are taken of it, and validations say how well "
        "it is still known [default: none].",
        json_schema_extra=DATA,
    )
    steps: PositiveInt = Field(400, description="Optimiser steps.", json_schema_extra=OPTIMISATION)
    batch_size: PositiveInt = Field(
        8, description="New images a step, over all processes, and as many prior ones.", json_schema_extra=OPTIMISATION
    )
    warmup: NonNegativeInt = Field(
        20, description="Steps of linear warm-up; a cosine to zero follows.", json_schema_extra=OPTIMISATION
    )
    weight_decay: NonNegativeFloat = Field(0.0, description="Weight decay (AdamW).", json_schema_extra=OPTIMISATION)
    ema: float = Field(
        0.98,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are what is saved.",
        json_schema_extra=OPTIMISATION,
    )
    eval_every: PositiveInt = Field(
        200, description="Steps between validations, samples and saved models.", json_schema_extra=OUTPUT
    )
    val_limit: PositiveInt = Field(192, description="Images of a validation.", json_schema_extra=OUTPUT)
    drop: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="Share of images whose class is not told to a model that may be told it.",
        json_schema_extra=OPTIMISATION,
    )


class ControlSettings(TrainSettings):
    """cfdiff train-control."""

    diffusion: Path | None = Field(
        None,
        description="Model file of the denoiser, which stays as it is [default: the bundled one of --data].",
        json_schema_extra=MODEL,
    )
    control: Annotated[str, OneOf(CONTROLS)] = Field(
        "edges", description="Which lines are not to move.", json_schema_extra=MODEL
    )
    steps: PositiveInt = Field(4000, description="Optimiser steps.", json_schema_extra=OPTIMISATION)
    batch_size: PositiveInt = Field(
        32, description="Images a step, over all processes.", json_schema_extra=OPTIMISATION
    )
    lr: PositiveFloat = Field(5e-4, description="Highest learning rate (AdamW).", json_schema_extra=OPTIMISATION)
    level_power: PositiveFloat = Field(
        1.0, description="Levels are drawn as T u^power: above 1 dwells at low noise.", json_schema_extra=OPTIMISATION
    )
    ema: float = Field(
        0.995,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are what is saved.",
        json_schema_extra=OPTIMISATION,
    )
    val_limit: PositiveInt = Field(192, description="Images of a validation.", json_schema_extra=OUTPUT)


class NetworkSettings(TrainSettings):
    """What trainings of classifiers share: the network, and how an image is varied and answered."""

    arch: str = Field("resnet14t", description="Any timm model.", json_schema_extra=MODEL)
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="JSON: further arguments that shape it.", json_schema_extra=MODEL
    )
    upsample: PositiveInt = Field(1, description="Enlarge the images before the network.", json_schema_extra=MODEL)
    downsample: PositiveInt = Field(
        1, description="Shrink the images by this before the network.", json_schema_extra=MODEL
    )
    pretrained: Path | None = Field(
        None, description="Local safetensors file with timm weights.", json_schema_extra=MODEL
    )
    gain: float = Field(
        0.1, ge=0, lt=1, description="Random brightness: pixel values times 1 +- gain.", json_schema_extra=OPTIMISATION
    )
    gamma: NonNegativeFloat = Field(
        0.0,
        le=2,
        description="Random exposure: pixel values to the power of e^-gamma to e^gamma.",
        json_schema_extra=OPTIMISATION,
    )
    cast: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Random colour cast: each channel times 1 +- cast, as of another camera or stain; gray images have "
        "none.",
        json_schema_extra=OPTIMISATION,
    )
    shift: NonNegativeInt = Field(2, description="Random shift in pixels.", json_schema_extra=OPTIMISATION)
    noise: NonNegativeFloat = Field(
        0.0,
        description="Clean training: random noise up to this sigma ([-1, 1] units).",
        json_schema_extra=OPTIMISATION,
    )
    calibrate: bool = Field(
        False, description="Fit a temperature at each noise level on the validation images.", json_schema_extra=OUTPUT
    )
    smoothing: float = Field(0.05, ge=0, lt=1, description="Label smoothing.", json_schema_extra=OPTIMISATION)
    lr: PositiveFloat = Field(2e-3, description="Highest learning rate (AdamW).", json_schema_extra=OPTIMISATION)
    weight_decay: NonNegativeFloat = Field(0.05, description="Weight decay (AdamW).", json_schema_extra=OPTIMISATION)


class ClassifierSettings(NetworkSettings):
    """cfdiff train-classifier."""

    space: Annotated[str, OneOf(SPACES)] = Field(
        "pixel", description="What it sees: pixels, or the latents where diffusion runs.", json_schema_extra=MODEL
    )
    autoencoder: Path | None = Field(None, description=AUTOENCODER, json_schema_extra=MODEL)
    init: Path | None = Field(
        None,
        description="Own diffusion model whose way down it begins from, in the place of --arch: that knows the images "
        "already (docs/training.md).",
        json_schema_extra=MODEL,
    )
    noisy: bool = Field(
        True, description="--noisy trains a guide (sees x_l), --clean a checker or judge.", json_schema_extra=MODEL
    )
    schedule: Literal["linear", "cosine"] = Field(
        "cosine", description="Noise schedule of the guide.", json_schema_extra=MODEL
    )
    schedule_of: Path | None = Field(
        None,
        description="File or folder of the diffusion model whose noise schedule is taken, in place of --schedule, --T.",
        json_schema_extra=MODEL,
    )
    T: PositiveInt = Field(1000, description="Noising steps.", json_schema_extra=MODEL)
    level_power: PositiveFloat = Field(
        3.0, description="The guide's levels are drawn as T u^power.", json_schema_extra=OPTIMISATION
    )
    clean_share: float = Field(
        0.2, ge=0, le=1, description="Share of the guide's images at level 0.", json_schema_extra=OPTIMISATION
    )
    intercept: bool = Field(
        False,
        description="Shift the log-odds so that they lean less to one class on the validation images: nearly all the "
        "way where those are of many groups, half of it where of one. Without groups each image is one.",
        json_schema_extra=OUTPUT,
    )


class AutoencoderSettings(TrainSettings):
    """cfdiff train-autoencoder."""

    patch: PositiveInt = Field(
        4, description="Pixels per side folded into channels at the entrance.", json_schema_extra=MODEL
    )
    widths: tuple[PositiveInt, ...] = Field(
        (64,),
        description="Channels of each resolution after the patches; each is half as fine as the one before.",
        json_schema_extra=MODEL,
    )
    blocks: PositiveInt = Field(
        1, description="Residual blocks a resolution; one more in the decoder.", json_schema_extra=MODEL
    )
    latent: PositiveInt = Field(4, description="Channels of the latents.", json_schema_extra=MODEL)
    loss: Literal["l1", "l2"] = Field(
        "l1", description="Mean absolute or squared difference of the pixels.", json_schema_extra=OPTIMISATION
    )
    features: Path | None = Field(
        None,
        description="Model file of a clean classifier whose feature maps are to be alike, too [default: none].",
        json_schema_extra=OPTIMISATION,
    )
    perceptual: NonNegativeFloat = Field(
        0.1, description="Weight of the feature maps of --features.", json_schema_extra=OPTIMISATION
    )
    kl: NonNegativeFloat = Field(
        1e-5, description="Weight of the KL divergence from N(0, 1), a latent.", json_schema_extra=OPTIMISATION
    )
    judge: Path | None = Field(
        None,
        description="Model file of a clean classifier: validations say how many of its verdicts are kept.",
        json_schema_extra=OUTPUT,
    )
    batch_size: PositiveInt = Field(
        16, description="Images a step, over all processes.", json_schema_extra=OPTIMISATION
    )
    val_limit: PositiveInt = Field(192, description="Images of a validation.", json_schema_extra=OUTPUT)


class ClipSettings(TrainSettings):
    """cfdiff train-clip."""

    captions: Path | None = Field(
        None,
        description="CSV with id,caption of every image [default: as cfdiff data captions makes them].",
        json_schema_extra=DATA,
    )
    texts: str | None = Field(
        None,
        description="What the two classes are called, as 'NEGATIVE|POSITIVE' [default: by their names].",
        json_schema_extra=DATA,
    )
    arch: str = Field("resnet14t", description="Image tower: any timm model.", json_schema_extra=MODEL)
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="JSON: further arguments that shape it.", json_schema_extra=MODEL
    )
    upsample: PositiveInt = Field(1, description="Enlarge the images before the network.", json_schema_extra=MODEL)
    downsample: PositiveInt = Field(
        1, description="Shrink the images by this before the network.", json_schema_extra=MODEL
    )
    pretrained: Path | None = Field(
        None, description="Local safetensors file with timm weights.", json_schema_extra=MODEL
    )
    joint: PositiveInt = Field(128, le=16384, description="Numbers of an embedding.", json_schema_extra=MODEL)
    text_width: PositiveInt = Field(128, le=16384, description="Width of the text tower.", json_schema_extra=MODEL)
    text_layers: PositiveInt = Field(2, le=128, description="Layers of the text tower.", json_schema_extra=MODEL)
    text_heads: PositiveInt = Field(4, le=1024, description="Attention heads of it.", json_schema_extra=MODEL)
    vocabulary: int = Field(
        1024,
        ge=260,
        le=1_000_000,
        description="Most tokens that are learned from the captions.",
        json_schema_extra=MODEL,
    )
    length: int = Field(
        48, ge=3, le=4096, description="Most tokens of a text; a longer one is cut.", json_schema_extra=MODEL
    )
    clauses: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of a caption's clauses, after the first, that are left out: short texts are then known too.",
        json_schema_extra=OPTIMISATION,
    )
    augment: Literal["none", "flip", "dihedral"] = Field(
        "none",
        description="Random flips, or flips and quarter turns: only where no caption says left, right, top or bottom.",
        json_schema_extra=OPTIMISATION,
    )
    shift: NonNegativeInt = Field(2, description="Random shift in pixels.", json_schema_extra=OPTIMISATION)
    gain: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Random brightness: pixel values times 1 +- gain; 0 where captions say how bright an image is.",
        json_schema_extra=OPTIMISATION,
    )
    weight_decay: NonNegativeFloat = Field(0.05, description="Weight decay (AdamW).", json_schema_extra=OPTIMISATION)
    val_limit: PositiveInt = Field(1000, description="Images of a validation.", json_schema_extra=OUTPUT)
