"""cfdiff train-classifier: the guide (noisy), the checker and the judge (clean)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.data.source import require_both_classes
from cfdiff.data.values import to_model
from cfdiff.engine.process import q_sample
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.errors import UserError
from cfdiff.models.calibration import fit_intercept, temperatures
from cfdiff.models.checkpoint import Card, load_diffusion
from cfdiff.models.classifier import Classifier, ClassifierConfig, build_classifier, load_pretrained
from cfdiff.models.space import encoded
from cfdiff.models.way_down import WayDown
from cfdiff.progress import Progress
from cfdiff.train.batches import Light, draw_levels
from cfdiff.train.beginning import begun_classifier
from cfdiff.train.data import open_training_data
from cfdiff.train.loop import Trainer
from cfdiff.train.result import TrainResult
from cfdiff.train.settings import ClassifierSettings
from cfdiff.train.spaces import Encodings, open_space, settle_in, space_facts

SHOWN_DEPTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
"""Depths (fractions of T) at which a guide's validation accuracy is reported."""


def train_classifier(s: ClassifierSettings, progress: Progress | None = None) -> TrainResult:
    """Train (or continue) and write the model to `s.out`; a guide sees the noise of its space, others see it clean.

    `progress` hears of it in the place of the terminal.
    """
    data = open_training_data(s)
    require_both_classes(data.train)
    require_both_classes(data.validation)
    space = open_space(s.space, s.autoencoder)
    image_height, image_width, image_channels = data.train.shape
    channels, height, width = space.shape(image_channels, image_height, image_width)
    told = space_facts(s.space, space, data.train.shape)
    begin = None
    if s.init is not None:
        s, begin = begun_classifier(s, told, (channels, height, width))
    config = ClassifierConfig(
        arch=s.arch,
        kwargs=s.kwargs,
        channels=channels,
        size=(height, width),
        upsample=s.upsample,
        downsample=s.downsample,
        noisy=s.noisy,
    )
    schedule = (
        NoiseSchedule.from_config({"name": s.schedule, "T": s.T})
        if s.schedule_of is None
        else load_diffusion(s.schedule_of).schedule
    )
    torch.manual_seed(s.seed)
    net = build_classifier(config)
    if s.intercept and not net.shiftable:
        raise UserError(
            f"--intercept needs a linear last layer with a bias, which {s.arch!r} lacks: choose another --arch."
        )
    taken = load_pretrained(net, s.pretrained) if s.pretrained is not None else None
    if begin is not None:
        assert isinstance(net.net, WayDown)
        net.net.begin_from(begin.unet)
    role = "guide" if s.noisy else "judge" if "judge" in data.split else "checker"
    trainer = Trainer(s, data, net, role, progress)
    trainer.say_pretrained(taken, net.net)
    settle_in(space, trainer)
    if begin is not None:
        begin.say_known(data.validation, trainer.console)
    batches = trainer.batches(balance=True)
    encode = Encodings(space, data.train, s.augment, s.shift, Light(s.gain, s.gamma, s.cast))
    log_snr = schedule.log_snr(torch.arange(schedule.T + 1)).float().to(trainer.device)

    def loss(net: nn.Module, step: int, part: int) -> Tensor:
        batch = batches.read(step, part)
        x0 = encode(batch)
        noise = batch.draws.normal(channels, height, width)
        if s.noisy:
            levels = draw_levels(batch.draws, schedule.T, s.level_power, s.clean_share)
            logits = net(q_sample(schedule, x0, levels, noise), log_snr[levels])
        else:
            logits = net(x0 + s.noise * batch.draws.uniform(1, 1, 1) * noise)
        return F.cross_entropy(logits.float(), batch.labels, label_smoothing=s.smoothing)

    images = to_model(data.validation.read(range(len(data.validation)))).to(trainer.device)
    images = encoded(space, images)
    labels = torch.from_numpy(data.validation.labels.astype("int64")).to(trainer.device)

    groups = data.validation.groups if data.validation.groups is not None else data.validation.ids
    validation = ClassifierValidation(
        schedule if s.noisy else None, images, labels, s.calibrate, groups if s.intercept else None
    )
    kind = "noisy-classifier" if s.noisy else "clean-classifier"
    noised = schedule.config if s.noisy else None
    learned = data.card if begin is None else begin.also(data.card, trainer.folder)
    card = Card(kind, net.config.model_dump(mode="json"), noised, learned, {}, **told)
    return trainer.run(loss, validation, card)


class ClassifierValidation:
    """What is measured at each validation of a classifier; where time is short, on a share of the images.

    Images (N, C, H, W) in [-1, 1] and labels (N,) are on the network's device. With `groups` (N,), what each image
    belongs to, the network gets the intercept that they ask for before it is measured.
    """

    def __init__(
        self,
        schedule: NoiseSchedule | None,
        images: Tensor,
        labels: Tensor,
        calibrate: bool,
        groups: np.ndarray | None = None,
    ) -> None:
        self.schedule, self.images, self.labels, self.calibrate = schedule, images, labels, calibrate
        self.groups = groups
        # Both classes in turn, so that any beginning of the list holds both.
        rank = torch.empty_like(labels)
        for k in (0, 1):
            rank[labels == k] = torch.arange(int((labels == k).sum()), device=labels.device)
        self.order = (2 * rank + labels).argsort()

    def __call__(self, net: nn.Module, step: int, share: float) -> dict[str, Any]:
        """The figures of the network; `val_images` where not all images were taken."""
        n = self._count(share)
        rows = self.order[:n].sort().values
        labels, logits = self.labels[rows], logits_by_level(net, self.schedule, self.images[rows])
        figures: dict[str, Any] = {}
        if self.groups is not None:
            assert isinstance(net, Classifier)
            odds = torch.stack([at[:, 1] - at[:, 0] for at in logits.values()])
            added = net.shift(fit_intercept(odds, labels, self.groups[rows.cpu().numpy()]))
            logits = {level: at + added for level, at in logits.items()}
            figures = {"intercept": float(added[1] - added[0])}
        figures |= figures_of(logits, labels, self.schedule is not None, self.calibrate)
        return figures if share >= 1 else {**figures, "val_images": n}

    def passes(self, share: float) -> int:
        """Images through the network: one an image and level."""
        return self._count(share) * (1 if self.schedule is None else len(SHOWN_DEPTHS))

    def _count(self, share: float) -> int:
        return min(len(self.images), max(2, int(share * len(self.images))))


@torch.no_grad()
def logits_by_level(
    net: nn.Module, schedule: NoiseSchedule | None, images: Tensor, batch: int = 128
) -> dict[int, Tensor]:
    """Logits (N, 2) of images (N, C, H, W) in [-1, 1]: clean, and with fixed noise at each of `SHOWN_DEPTHS` where
    there is the schedule of a guide."""

    def logits_at(level: int) -> Tensor:
        if schedule is None:
            return torch.cat([net(x0).float() for x0 in images.split(batch)])
        generator = torch.Generator().manual_seed(0)
        out = []
        for x0 in images.split(batch):
            noise = torch.randn(x0.shape, generator=generator).to(x0.device)
            log_snr = schedule.log_snr(level).float().expand(len(x0)).to(x0.device)
            out.append(net(q_sample(schedule, x0, level, noise), log_snr).float())
        return torch.cat(out)

    depths = SHOWN_DEPTHS if schedule is not None else (0.0,)
    levels = [round(d * (schedule.T if schedule is not None else 1)) for d in depths]
    return {level: logits_at(level) for level in levels}


def figures_of(logits: Mapping[int, Tensor], labels: Tensor, noisy: bool, calibrate: bool = False) -> dict[str, Any]:
    """Balanced accuracy and cross-entropy of logits (N, 2) of clean images, and the accuracy at each level of a guide.

    Args:
        logits: level -> those of images whose classes are `labels` (N,) int64.
        calibrate: add `calibration`, the temperature at each level.
    """

    def accuracy(logits: Tensor) -> float:
        right = (logits.argmax(1) == labels).float()
        return float(torch.stack([right[labels == k].mean() for k in (0, 1)]).mean())

    figures: dict[str, Any] = {
        "val_accuracy": accuracy(logits[0]),
        "val_loss": float(F.cross_entropy(logits[0], labels)),
    }
    if noisy:
        figures["val_accuracy_by_level"] = {str(level): accuracy(at) for level, at in logits.items()}
    if calibrate:
        figures["calibration"] = temperatures(logits, labels)
    return figures
