"""cfdiff mil train: a bag model of torchmil, from real bags and from the same bags at several mixes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfdiff.engine import seed_of
from cfdiff.errors import UserError
from cfdiff.metrics.bag_scores import bag_auroc, balanced_accuracy, log_loss, tau
from cfdiff.mil.answers import as_input, encoded, say
from cfdiff.mil.asked import silences, weights_of
from cfdiff.mil.batches import BagBatches, turned_by_place
from cfdiff.mil.data import BagData, open_bag_data
from cfdiff.mil.measure import Scores
from cfdiff.mil.series import BagSet
from cfdiff.mil.settings import MilTrainSettings
from cfdiff.mil.targets import Labelled, Target
from cfdiff.models.bag_network import BagConfig, BagNetwork, build_encoder, encoder_width, load_encoder
from cfdiff.models.checkpoint import Card, load_model
from cfdiff.models.classifier import Classifier, ClassifierConfig
from cfdiff.progress import Progress
from cfdiff.registry import BAG_TARGETS, MIXTURE_LOSSES
from cfdiff.train.loop import Trainer
from cfdiff.train.result import TrainResult

KIND = "bag-classifier"


def mil_train(s: MilTrainSettings, progress: Progress | None = None) -> TrainResult:
    """Train (or continue) and write the model to `s.out`; `progress` hears of it in the place of the terminal.

    Raises:
        UserError: bags, mixtures, model or folder cannot be used as asked.
    """
    data = open_bag_data(s)
    torch.manual_seed(s.seed)
    net = build(s, data.real)
    return train_on(s, data, net, progress)


def train_on(s: MilTrainSettings, data: BagData, net: BagNetwork, progress: Progress | None = None) -> TrainResult:
    """As `mil_train`, on bags that are open already."""
    target: Target = BAG_TARGETS[s.target]
    image = list(data.real.contents.shape[1:]) if data.real.images else None
    trainer = Trainer(s, data, net, "mil", progress)
    inside: BagNetwork = trainer.accelerator.unwrap_model(trainer.net)
    if net.config.frozen and image is not None:
        if s.half:  # as the file will give it back
            inside.encoder.half().float()  # type: ignore[union-attr]
        data = data.with_contents(encoded(inside, data.real.contents, trainer.device))
        trainer.average.net.load_state_dict(inside.state_dict())
    _standardise(inside, data)
    trainer.average.net.load_state_dict(inside.state_dict())
    for sentence in (_words(data), *silences(s, data.mixes, inside)):
        trainer.console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    batches = BagBatches(
        data.real.series,
        data.mixes.series,
        size=s.batch_size,
        versions=s.versions,
        low=s.low,
        balance=s.balance and not target.counts,
        seed=s.seed,
        accumulate=s.accumulate,
        rank=trainer.accelerator.process_index,
        world=trainer.accelerator.num_processes,
    )
    wanted = {MIXTURE_LOSSES[name]: weight for name, weight in weights_of(s).items()}

    def loss(net: nn.Module, step: int, part: int) -> Tensor:
        batch = batches.read(step, part)
        x = as_input(data.real.contents[batch.rows]).to(trainer.device)
        if x.ndim == 4:
            x = turned_by_place(x, batch, s.augment, s.seed, step)
        bags = [bag.to(trainer.device) for bag in batch.bags]
        told = [Labelled(o.labels.to(trainer.device), o.classes.to(trainer.device)) for o in batch.told]
        answers = net(x, bags, [one.classes for one in told] if target.own else None)
        real = batch.real
        total: Tensor = target.loss(answers[:real], told[:real])
        if len(answers) > real:
            for function, weight in wanted.items():
                total = total + weight * function(answers[real:], told[real:], target)
        return total

    validation = BagValidation(data.validation, s.target, trainer.device)
    card = Card(KIND, {"network": "bag", **net.config.model_dump(mode="json")}, None, data.card, {}, image=image)
    return trainer.run(loss, validation, card)


def build(s: MilTrainSettings, bags: BagSet) -> BagNetwork:
    """A new bag network for these instances.

    Raises:
        UserError: the encoder or the model cannot be built, or is given for instances that are features.
    """
    told: dict[str, Any] = {"model": s.model, "width": s.width, "dropout": s.dropout, "kwargs": s.kwargs}
    if not bags.images:
        if s.encoder is not None:
            raise UserError(f"--encoder sees images, but {bags.name} holds features: leave it out.")
        return BagNetwork(BagConfig(features=bags.contents.shape[1], **told))
    height, width, channels = bags.contents.shape[1:]
    if s.encoder is not None:
        given = load_model(s.encoder, "clean-classifier")
        classifier = given.net
        if not isinstance(classifier, Classifier) or given.shape != (height, width, channels):
            raise UserError(
                f"The encoder {s.encoder.name} does not see images of {height}x{width}x{channels}: give a classifier "
                "of pixels that was trained on such."
            )
        config, features = classifier.config, encoder_width(classifier.config)
    else:
        classifier, features = build_encoder(
            ClassifierConfig(
                arch=s.arch, kwargs=s.arch_kwargs, channels=channels, size=(height, width), upsample=1, downsample=1
            )
        )
        config = classifier.config
    net = BagNetwork(BagConfig(features=features, encoder=config, frozen=s.frozen, **told))
    load_encoder(net, classifier)
    net.encoder.requires_grad_(not s.frozen)  # type: ignore[union-attr]
    return net


@torch.no_grad()
def _standardise(net: BagNetwork, data: BagData) -> None:
    """Standardise features by those of the real training instances; an encoder that learns needs none."""
    if data.real.images:
        return
    rows = np.unique(np.concatenate([one.rows.ravel() for one in data.real.series]))
    net.standardise(torch.from_numpy(data.real.contents[rows].astype(np.float32)).to(net.shift.device))


def _words(data: BagData) -> str:
    """One line about what is learned from."""
    classes = [sum(int(one.classes[0]) == k for one in data.real.series) for k in (0, 1)]
    mixes = f"{len(data.mixes.series)} bags at several mixes ({data.mixtures})" if data.mixes.series else "no mixtures"
    return (
        f"{data.real.name}: {classes[0]} negative and {classes[1]} positive bags of "
        f"{len({one.group for one in data.real.series})} groups to train on, {mixes}; "
        f"{len(data.validation.series)} to validate on"
    )


class BagValidation:
    """What is measured at each validation: on real bags, a share of them where time is short."""

    def __init__(self, bags: BagSet, target: str, device: torch.device) -> None:
        self.bags, self.target, self.device = bags, target, device
        ones = sorted(bags.series, key=lambda one: seed_of(0, one.name))
        rank = {one.name: i for k in (0, 1) for i, one in enumerate(o for o in ones if o.classes[0] == k)}
        self.order = sorted(ones, key=lambda one: (rank[one.name], int(one.classes[0])))

    def __call__(self, net: nn.Module, step: int, share: float) -> dict[str, Any]:
        """AUROC, and by the target: balanced accuracy and cross-entropy, mean error of the fraction, or tau-b."""
        assert isinstance(net, BagNetwork)
        part = self.order[: self._count(share)]
        scores = Scores.of(list(say(net, self.bags, part, self.device)))
        found: dict[str, Any] = {}
        if self.target == "label":
            found["val_accuracy"] = balanced_accuracy(scores.score, scores.positive)
            found["val_loss"] = log_loss(scores.score, scores.positive)
        if self.target == "fraction":
            found["val_mae"] = float(np.abs(1 / (1 + np.exp(-scores.score)) - scores.mix).mean())
        for name, value in (("val_auroc", bag_auroc(scores.score, scores.positive)), ("val_tau", _tau(scores))):
            if np.isfinite(value):
                found[name] = value
        return found if share >= 1 else {**found, "val_images": len(part)}

    def passes(self, share: float) -> int:
        """Instances through the network."""
        return sum(one.size for one in self.order[: self._count(share)])

    def _count(self, share: float) -> int:
        return min(len(self.order), max(2, int(share * len(self.order))))


def _tau(scores: Scores) -> float:
    return tau(scores.score, scores.mix) if np.isfinite(scores.mix).all() else float("nan")
