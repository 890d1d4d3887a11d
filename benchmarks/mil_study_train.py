"""One training of the study, and its answers to real bags of the test patients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mil_study_arms import FOUND, SHARES, VERSIONS, Arm, World, drawn_rows, real_bags
from mil_study_data import Cells
from torch import Tensor, nn

from cfdiff.engine import seed_of
from cfdiff.mil.batches import BagBatches
from cfdiff.mil.series import Series
from cfdiff.mil.settings import DEFAULT_WEIGHTS
from cfdiff.mil.targets import Labelled, Target
from cfdiff.models.bag_network import BagAnswer, BagConfig, BagNetwork
from cfdiff.registry import BAG_TARGETS, MIXTURE_LOSSES

BAGS, RATE, WIDTH = 4, 5e-3, 32
TAUGHT = 128
"""Instances of the guide's patients, half of them positive, that the arm which is told their labels sees in a step."""
TEST_DRAWS = 4


@dataclass(frozen=True)
class Budget:
    """The same for every arm."""

    steps: int = 60
    size: int = 100
    model: str = "abmil"

    @property
    def shape(self) -> dict[str, int]:
        """Of the model: a small attention, as embeddings are small."""
        return {"att_dim": WIDTH} if self.model == "abmil" else {}


class Pooled(nn.Module):
    """A bag's answer from its instances' own: log-sum-exp of their logits, or the logit of their mean probability."""

    def __init__(self, net: BagNetwork, head: nn.Module, fraction: bool) -> None:
        super().__init__()
        self.embed, self.head, self.fraction, self.shift = net.embed, head, fraction, 0.0

    def answer(self, embedding: Tensor) -> BagAnswer:
        """As `BagNetwork.answer`."""
        logits = self.head(embedding)[..., 0]
        score = torch.logit((logits + self.shift).sigmoid().mean(1), 1e-4) if self.fraction else logits.logsumexp(1)
        return BagAnswer(score, logits.softmax(1), embedding)

    @torch.no_grad()
    def calibrated(self, contents: Tensor, real: list[Series]) -> Pooled:
        """Itself, with the shift of all logits at which the mean answer to the training bags is their mean fraction:
        its classes were learned half and half, and instances are not."""
        logits = self.head(self.embed(contents[np.stack([one.rows[0] for one in real])]))[..., 0]
        mean = float(np.mean([(one.labels[0] == 1).mean() for one in real]))
        low, high = -20.0, 20.0
        for _ in range(50):
            self.shift = (low + high) / 2
            low, high = (low, self.shift) if (logits + self.shift).sigmoid().mean() > mean else (self.shift, high)
        return self


def trained(world: World, arm: Arm, patients: list[str], target: str, seed: int, budget: Budget) -> BagNetwork | Pooled:
    """A bag model of torchmil that learned real bags of some patients, and what the arm makes of them."""
    torch.manual_seed(seed)
    told: Target = BAG_TARGETS[target]
    real = real_bags(world, patients, (FOUND,) if told.counts else SHARES, budget.size, seed)
    mixes, more = arm.mixes(world, real, seed)
    contents = torch.from_numpy(np.concatenate([world.contents, more]))
    net = BagNetwork(BagConfig(model=budget.model, features=contents.shape[1], width=WIDTH, kwargs=budget.shape))
    net.standardise(contents[np.unique(np.concatenate([one.rows.ravel() for one in real]))])
    head = nn.Linear(WIDTH, 1)
    learned = [*net.parameters(), *(head.parameters() if arm.taught else ())]
    optimiser = torch.optim.AdamW(learned, RATE, weight_decay=1e-2)
    batches = BagBatches(
        real, mixes, size=BAGS, versions=VERSIONS, low=4.0, balance=not told.counts, seed=seed
    )  # fmt: skip
    for step in range(budget.steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / budget.steps))
        batch = batches.read(step)
        known = batch.told
        answers = net(contents[batch.rows], batch.bags, [o.classes for o in known] if told.own else None)
        n = batch.real
        loss = torch.zeros(()) if arm.pooled else told.loss(answers[:n], known[:n])
        for name in () if arm.pooled else arm.losses:
            loss = loss + DEFAULT_WEIGHTS[name] * MIXTURE_LOSSES[name](answers[n:], known[n:], told)
        if arm.taught:
            loss = loss + instance_loss(head, answers, known, told.own and not arm.pooled)
        if arm.taught == "guide":
            loss = loss + guide_loss(net, head, world, contents, seed, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    if not arm.pooled:
        return net.eval()
    pooled = Pooled(net.eval(), head, told.counts)
    return pooled.calibrated(contents, real) if told.counts else pooled


def instance_loss(head: nn.Module, answers: list[BagAnswer], told: list[Labelled], look: bool) -> Tensor:
    """Instance-supervised pooling: a linear head on the embedding says the class, and attention goes to positives.

    The latter only where `look`: who looks at positives alone cannot say how many they are.
    """
    flat = torch.cat([a.embedding.flatten(0, 1) for a in answers])
    labels = torch.cat([o.labels.flatten() for o in told]).float()
    said = balanced_bce(head(flat)[:, 0], labels)
    if not look:
        return said
    looks = []
    for a, o in zip(answers, told, strict=True):
        on = (a.attention * (o.labels == 1)).sum(1)[o.classes == 1]
        looks.append(-on.clamp(min=1e-6).log())
    every = torch.cat(looks)
    return said + (every.mean() if len(every) else every.sum())


def guide_loss(net: BagNetwork, head: nn.Module, world: World, contents: Tensor, seed: int, step: int) -> Tensor:
    """The head learns from cells of all patients that the guide learned from, too."""
    rng = np.random.default_rng(seed_of(seed, f"taught/{step}"))
    picked = np.concatenate([rng.choice(np.flatnonzero(world.taught_labels == k), TAUGHT // 2) for k in (0, 1)])
    labels = torch.from_numpy(world.taught_labels[picked]).float()
    return balanced_bce(head(net.embed(contents[world.taught[picked]]))[:, 0], labels)


def balanced_bce(score: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy, both classes of the same weight where both are there."""
    each = F.binary_cross_entropy_with_logits(score, label, reduction="none")
    return torch.stack([each[label == k].mean() for k in (0, 1) if (label == k).any()]).mean()


@dataclass(frozen=True, eq=False)
class Test:
    """Real bags (P, S, DRAWS, size), as rows of `contents`, of P test patients at S shares of positives.

    Share 0 takes all positives out; the last is the bag as found. `fraction` (P, DRAWS) is that of the last.
    """

    patients: list[str]
    infected: np.ndarray
    contents: np.ndarray
    rows: np.ndarray
    fraction: np.ndarray


def test_bags(cells: Cells, contents: np.ndarray, size: int) -> Test:
    """The same for every training."""
    shares, patients = (0.0, *SHARES, FOUND), cells.names
    rows = np.empty((len(patients), len(shares), TEST_DRAWS, size), np.int64)
    for p, patient in enumerate(patients):
        for d in range(TEST_DRAWS):
            rng = np.random.default_rng(seed_of(0, f"test/{patient}/{d}"))
            state = rng.bit_generator.state
            for s, share in enumerate(shares):
                rng.bit_generator.state = state  # the same cells at every share, but for the positives
                rows[p, s, d] = drawn_rows(cells, patient, share, size, rng, set())
    infected = np.array([cells.infected(p) for p in patients])
    return Test(patients, infected, contents, rows, (cells.labels[rows[:, -1]] == 1).mean(-1))


@torch.no_grad()
def asked(net: BagNetwork | Pooled, test: Test, target: str) -> np.ndarray:
    """(P, S, DRAWS) scores of the test bags: of those as found for the fraction, else of all others."""
    rows = test.rows[:, -1:] if BAG_TARGETS[target].counts else test.rows[:, :-1]
    embedding = net.embed(torch.from_numpy(test.contents))
    flat = torch.from_numpy(rows.reshape(-1, rows.shape[-1]))
    scores = [net.answer(embedding[part]).score for part in flat.split(256)]
    return torch.cat(scores).numpy().reshape(rows.shape[:3])


def line(scores: np.ndarray) -> dict[str, Any]:
    """What is kept of a training: its scores, by patient and share."""
    return {"scores": np.round(scores.astype(np.float64), 4).tolist()}
