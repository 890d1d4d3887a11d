"""cfdiff train-classifier: the guide (noisy), the checker and the judge (clean)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfdiff.data.source import require_both_classes
from cfdiff.data.values import to_model
from cfdiff.engine.process import q_sample
from cfdiff.engine.schedule import NoiseSchedule
from cfdiff.models.checkpoint import Card
from cfdiff.models.classifier import Classifier, ClassifierConfig, load_pretrained
from cfdiff.workflows.batches import Batches, augment, draw_levels, train_and_validation
from cfdiff.workflows.settings import ClassifierSettings
from cfdiff.workflows.trainer import Trainer, start

SHOWN_DEPTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
"""Depths (fractions of T) at which a guide's validation accuracy is reported."""


def train_classifier(s: ClassifierSettings) -> dict[str, Any]:
    """Train (or continue) and write the model to `s.out`; returns the last validation."""
    train, validation = train_and_validation(s)
    require_both_classes(train)
    require_both_classes(validation)
    accelerator, out = start(s, f"{'guide' if s.noisy else 'checker'}-{train.name}")
    height, width, channels = train.shape
    config = ClassifierConfig(
        arch=s.arch,
        kwargs=s.kwargs,
        channels=channels,
        size=(height, width),
        upsample=s.upsample,
        noisy=s.noisy,
    )
    schedule = NoiseSchedule.from_config({"name": s.schedule, "T": s.T})
    torch.manual_seed(s.seed)
    net = Classifier(config)
    if s.pretrained is not None:
        load_pretrained(net, str(s.pretrained))
    trainer = Trainer(s, out, accelerator, net)
    batches = Batches(
        train,
        s.batch_size // s.accumulate,
        s.seed,
        balance=True,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    device = accelerator.device

    def loss(net: nn.Module, step: int) -> Tensor:
        x0, y = batches.read(step)
        x0 = augment(x0, s.augment, s.shift, s.gain).to(device)
        if s.noisy:
            levels = draw_levels(len(x0), s.T, s.level_power, s.clean_share)
            x = q_sample(schedule, x0, levels.to(device), torch.randn_like(x0))
            logits = net(x, schedule.log_snr(levels).to(device))
        else:
            sigma = s.noise * torch.rand(len(x0), 1, 1, 1, device=device)
            logits = net(x0 + sigma * torch.randn_like(x0))
        return F.cross_entropy(logits.float(), y.to(device), label_smoothing=s.smoothing)

    images = to_model(validation.read(range(len(validation)))).to(device)
    labels = torch.from_numpy(validation.labels.astype("int64")).to(device)

    def evaluate(net: nn.Module, step: int) -> dict[str, Any]:
        return validate(net, schedule if s.noisy else None, images, labels)

    def card(facts: dict[str, Any]) -> Card:
        groups = [] if train.groups is None else sorted({str(g) for g in train.groups})
        data = {
            "name": train.name,
            "fingerprint": train.fingerprint,
            "split": s.split,
            "images": len(train),
            "classes": list(train.classes),
            "groups": groups,
        }
        told = {
            "settings": s.model_dump(mode="json", exclude={"out", "force", "data", "pretrained"}),
            **facts,
        }
        kind = "noisy-classifier" if s.noisy else "clean-classifier"
        return Card(kind, config.model_dump(mode="json"), schedule.config if s.noisy else None, data, told)

    return trainer.run(loss, evaluate, card)


@torch.no_grad()
def validate(
    net: nn.Module, schedule: NoiseSchedule | None, images: Tensor, labels: Tensor, batch: int = 128
) -> dict[str, Any]:
    """Balanced accuracy and cross-entropy; for a guide (`schedule` given) the accuracy at each of `SHOWN_DEPTHS`."""

    def logits_at(level: int | None) -> Tensor:
        out = []
        generator = torch.Generator().manual_seed(0)
        for x0 in images.split(batch):
            if schedule is None or level is None:
                out.append(net(x0))
                continue
            noise = torch.randn(x0.shape, generator=generator).to(x0.device)
            x = q_sample(schedule, x0, level, noise) if level else x0
            out.append(net(x, schedule.log_snr(level).expand(len(x0)).to(x0.device)))
        return torch.cat(out).float()

    def accuracy(logits: Tensor) -> float:
        right = (logits.argmax(1) == labels).float()
        return float(torch.stack([right[labels == k].mean() for k in (0, 1)]).mean())

    if schedule is None:
        logits = logits_at(None)
        return {"val_accuracy": accuracy(logits), "val_loss": float(F.cross_entropy(logits, labels))}
    by_level = {str(round(d * schedule.T)): accuracy(logits_at(round(d * schedule.T))) for d in SHOWN_DEPTHS}
    return {"val_accuracy": by_level["0"], "val_accuracy_by_level": by_level}
