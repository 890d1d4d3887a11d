"""cfdiff supervise: an ordinary clean classifier, taught by counterfactual pairs as well as by images."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.data.source import Source, require_both_classes
from cfdiff.data.values import to_model
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card
from cfdiff.models.classifier import ClassifierConfig, build_classifier, load_pretrained
from cfdiff.progress import Progress
from cfdiff.registry import INVARIANCES
from cfdiff.settings import first_changed
from cfdiff.supervise.contrast import Contrast, PairBatch, share_of
from cfdiff.supervise.measure import measure, open_test
from cfdiff.supervise.pairs import Pairs, read_pairs
from cfdiff.supervise.result import SuperviseResult, write_result
from cfdiff.supervise.settings import NONE, OF_MAPS, OF_PAIRS, SuperviseSettings
from cfdiff.train.batches import Batch, Light, augment
from cfdiff.train.classifier import ClassifierValidation
from cfdiff.train.data import Also, Named, open_training_data
from cfdiff.train.loop import Trainer


def supervise(s: SuperviseSettings, progress: Progress | None = None) -> SuperviseResult:
    """Train (or continue), write the classifier to `s.out`, and measure it on the test split.

    `progress` hears of it in the place of the terminal.

    Raises:
        UserError: data, pairs, network or folder cannot be used as asked.
    """
    _check(s)
    data = open_training_data(s)
    require_both_classes(data.train)
    require_both_classes(data.validation)
    test = open_test(s, data.train)
    pairs = None if s.plain else read_pairs(s, data.train)
    torch.manual_seed(s.seed)
    net = build_classifier(_config(s, data.train))
    taken = load_pretrained(net, s.pretrained) if s.pretrained is not None else None
    name, known = data.train.name, data if pairs is None else _with_pairs(data.train, pairs)
    trainer = Trainer(s, known, net, "plain" if pairs is None else "supervised", progress)
    trainer.say_pretrained(taken, net.net)
    for sentence in () if pairs is None else pairs.sentences():
        trainer.console.print(f"{name}: {sentence}", highlight=False, markup=False, soft_wrap=True)
    loss = _loss(s, trainer, data.train, pairs)
    images = to_model(data.validation.read(range(len(data.validation)))).to(trainer.device)
    labels = torch.from_numpy(data.validation.labels.astype("int64")).to(trainer.device)
    validation = ClassifierValidation(None, images, labels, s.calibrate)
    told = data.card if pairs is None else {**data.card, "pairs": _facts(pairs)}
    card = Card("clean-classifier", net.config.model_dump(mode="json"), None, told, {})
    trained = trainer.run(loss, validation, card)
    found = None if test is None else measure(trained.model, test, trainer.device)
    result = SuperviseResult(trained, None if pairs is None else pairs.counts, found)
    if trainer.accelerator.is_main_process:
        write_result(result)
    return result


def _check(s: SuperviseSettings) -> None:
    """Raise UserError where something is asked of pairs, or of what lies outside their maps, and nothing does that."""
    if s.plain and (option := first_changed(s, OF_PAIRS)):
        raise UserError(f"{option} is of pairs, and --pairs none trains without: name a run's file, or leave it out.")
    if s.invariance == NONE and (option := first_changed(s, OF_MAPS)):
        raise UserError(f"{option} is of --invariance gradient or features, and none is asked for: leave it out.")


def _config(s: SuperviseSettings, train: Source) -> ClassifierConfig:
    height, width, channels = train.shape
    return ClassifierConfig(
        arch=s.arch,
        kwargs=s.kwargs,
        channels=channels,
        size=(height, width),
        upsample=s.upsample,
        downsample=s.downsample,
    )


def _with_pairs(train: Source, pairs: Pairs) -> Also:
    return Also(Named(train.name, f"{train.fingerprint}+{pairs.digest}"))


def _facts(pairs: Pairs) -> dict[str, Any]:
    """What the card says of the pairs: their files, who accepted, and what became of them."""
    return {"files": list(pairs.files), "accepted_by": sorted(set(pairs.who)), "counts": pairs.counts}


def _loss(s: SuperviseSettings, trainer: Trainer, train: Source, pairs: Pairs | None) -> Any:
    """`loop.Loss`: cross-entropy, that of pairs with their weight, and the invariance outside their maps."""

    def entropy(logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        return F.cross_entropy(logits.float(), labels, label_smoothing=s.smoothing, reduction=reduction)

    if pairs is None:
        batches = trainer.batches(train, balance=True)

        def plain(net: nn.Module, step: int, part: int) -> Tensor:
            batch = batches.read(step, part)
            return entropy(net(_varied(s, batch)), batch.labels)

        return plain

    share = share_of(s, s.accumulate * trainer.accelerator.num_processes)
    others = trainer.batches(train, share.real, balance=True)
    contrast = Contrast(s, train, pairs, share.pairs, trainer.batches)
    invariance = INVARIANCES[s.invariance]

    def loss(net: nn.Module, step: int, part: int) -> Tensor:
        batch = others.read(step, part)
        pair: PairBatch = contrast.read(step, part)
        noisy = _noised(s, pair.images, pair.draws)
        answers = invariance(net, _varied(s, batch), noisy, pair.relevant, pair.draws)
        each = entropy(answers.logits, torch.cat([batch.labels, pair.labels]), "none")
        weights = torch.ones_like(each)
        weights[len(batch.labels) :] = s.pairs_weight
        return (weights * each).sum() / weights.sum() + s.invariance_weight * answers.penalty

    return loss


def _varied(s: SuperviseSettings, batch: Batch) -> Tensor:
    """The images of a batch as `train_classifier` would show them: plain training is the same training."""
    x = augment(batch.images, batch.draws, s.augment, s.shift, Light(s.gain, s.gamma, s.cast))
    noise = batch.draws.normal(*x.shape[1:])
    return x + s.noise * batch.draws.uniform(1, 1, 1) * noise


def _noised(s: SuperviseSettings, images: Tensor, draws: Any) -> Tensor:
    """Images of pairs with the noise of --noise, the same for a source and its counterfactual."""
    if not s.noise:
        return images
    noise = draws.uniform(1, 1, 1) * draws.normal(*images.shape[1:])
    return images + s.noise * noise.repeat(2, 1, 1, 1)
