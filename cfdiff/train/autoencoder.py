"""cfdiff train-autoencoder: images to latents and back (Rombach et al. 2022, section 3.1, without the adversary).

    loss = |x - D(z)| + perceptual |phi(x) - phi(D(z))| + kl KL(q(z | x) || N(0, 1)),      z ~ q(z | x)

with phi the feature maps of a classifier that we have, where one is given: what it sees is what has to survive.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.data.match import shape_misfit
from cfdiff.data.source import random_subset
from cfdiff.data.values import to_model
from cfdiff.models.autoencoder import AutoencoderConfig, build_autoencoder
from cfdiff.models.checkpoint import Card, Model, load_model
from cfdiff.models.features import feature_distance, feature_maps
from cfdiff.progress import Progress
from cfdiff.train.batches import augment
from cfdiff.train.data import TrainingData, open_training_data
from cfdiff.train.loop import Trainer
from cfdiff.train.reconstruct import ReconstructionValidation
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import AutoencoderSettings

MEASURED = 512
"""Training images by which the latents are scaled, and of whose patches they are the principal components at first."""


def train_autoencoder(s: AutoencoderSettings, progress: Progress | None = None) -> TrainResult:
    """Train (or continue) and write the model to `s.out`; `progress` hears of it in the place of the terminal."""
    data = open_training_data(s)
    height, width, channels = data.train.shape
    config = AutoencoderConfig(
        channels=channels,
        size=(height, width),
        patch=s.patch,
        widths=s.widths,
        blocks=s.blocks,
        latent=s.latent,
        linear=True,
    )
    witnesses = {"features": s.features, "judge": s.judge}
    models = {name: None if path is None else _classifier(path, name, data) for name, path in witnesses.items()}
    measured = random_subset(data.train, MEASURED, 0)
    typical = to_model(measured.read(range(len(measured))))
    torch.manual_seed(s.seed)
    net = build_autoencoder(config)
    net.begin(typical)
    trainer = Trainer(s, data, net, "autoencoder", progress)
    seen = None if models["features"] is None else feature_maps(models["features"], trainer.device)
    batches = trainer.batches()

    def loss(net: nn.Module, step: int, part: int) -> Tensor:
        batch = batches.read(step, part)
        x = augment(batch.images, batch.draws, s.augment)
        noise = batch.draws.normal(s.latent, height // config.factor, width // config.factor)
        drawn, mean, log_variance = (value.float() for value in net(x, noise))
        found = pixel_loss(s.loss)(drawn, x)
        if seen is not None:
            found = found + s.perceptual * feature_distance(seen, drawn, x).mean()
        return found + s.kl * kl_from_standard(mean, log_variance)

    validation = ReconstructionValidation(
        typical.to(trainer.device),
        to_model(data.validation.read(range(len(data.validation)))).to(trainer.device),
        data.validation.dtype,
        pixel_loss(s.loss),
        models["judge"],
        trainer.folder.path,
    )
    return trainer.run(loss, validation, Card("autoencoder", config.model_dump(mode="json"), None, data.card, {}))


def pixel_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Of images in [-1, 1]: "l1" the mean absolute, "l2" the mean squared difference."""
    return {"l1": F.l1_loss, "l2": F.mse_loss}[name]


def kl_from_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)), the mean over all latents (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def _classifier(path: object, name: str, data: TrainingData) -> Model:
    """A clean classifier of these images; UserError where it is none."""
    model = load_model(str(path), "clean-classifier")
    misfit = shape_misfit(
        data.train.name, data.train.shape, f"the classifier of --{name}, {model.name!r},", model.shape
    )
    if misfit is not None:
        raise misfit.error
    return model
