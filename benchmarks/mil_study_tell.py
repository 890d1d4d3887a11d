"""How well can a network that is trained for just that tell edited from untouched cells? On patients it never saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mil_study_data import Cells, Edits
from mil_study_features import new_encoder
from torch import nn

from cfdiff.data.values import to_model
from cfdiff.engine import seed_of
from cfdiff.metrics.bag_scores import bag_auroc
from cfdiff.metrics.intervals import bootstrap_rows

STEPS, BATCH, PARTS = 80, 64, 2
"""Of a training; and in how many parts the patients are divided, each tested by a network of the others."""


def tell(cells: Cells, core: np.ndarray, edits: dict[str, Edits], of_block: list[list[str]]) -> dict[str, Any]:
    """Question -> AUROC of "was made by the diffusion model", with its interval over patients.

    Edits to positive are asked against real positives of the same patients, as many of each, else the parasite or the
    stain would tell; a sham or an unguided image against its own source.
    """
    found = {}
    for name, one in edits.items():
        flips = name in ("instance", "joint")
        rows = np.flatnonzero(one.label == 1) if flips else np.arange(len(one.row))
        source = core[one.row[rows]]
        who = cells.patients[source]
        if flips:
            rng = np.random.default_rng(seed_of(0, f"tell/{name}"))
            kept, chosen = [], []
            for patient in sorted({p for b in of_block for p in b}):
                mine = np.flatnonzero(who == patient)
                there = np.flatnonzero((cells.labels == 1) & (cells.patients == patient))
                n = min(len(mine), len(there))
                kept.append(rng.permutation(mine)[:n])
                chosen.append(rng.permutation(there)[:n])
            rows, who = rows[np.concatenate(kept)], who[np.concatenate(kept)]
            real = np.concatenate(chosen)
        else:
            real = np.unique(source)
        images = np.concatenate([one.images[rows], cells.images[real]])
        made = np.repeat([True, False], [len(rows), len(real)])
        patients = np.concatenate([who, cells.patients[real]])
        score = held_out(images, made, patients, of_block)
        tested = np.isfinite(score)

        def auroc(rows: np.ndarray, score: np.ndarray = score[tested], made: np.ndarray = made[tested]) -> float:
            return bag_auroc(score[rows], made[rows])

        n = int(tested.sum())
        found[name] = {
            "against": "real positives" if flips else "their sources", "made": int(made.sum()), "real": len(real),
            "auroc": auroc(np.arange(n)), "95": bootstrap_rows(n, patients[tested], auroc, 1000, within=(0, 1)),
        }  # fmt: skip
        print("tell", name, found[name], flush=True)
    return found


def held_out(images: np.ndarray, made: np.ndarray, patients: np.ndarray, of_block: list[list[str]]) -> np.ndarray:
    """(N,) score of each image by a network that learned on the other part's patients; comparable within a part only.

    So scores are put to ranks within each part.
    """
    score = np.full(len(images), np.nan)
    for part in range(PARTS):
        names = [p for b, block in enumerate(of_block) if b % PARTS == part for p in block]
        test = np.isin(patients, names)
        net = learned(images[~test], made[~test], part)
        with torch.no_grad():
            said = torch.cat([net(to_model(x)) for x in np.array_split(images[test], max(1, test.sum() // 128))])[:, 0]
        score[test] = said.numpy().argsort().argsort() / max(1, int(test.sum()) - 1)
    return score


def learned(images: np.ndarray, made: np.ndarray, seed: int) -> nn.Module:
    """A small residual network from scratch; turned and mirrored, never interpolated, so that fine traces stay."""
    torch.manual_seed(seed)
    net = nn.Sequential(new_encoder(images.shape[3]), nn.LazyLinear(1))
    net(to_model(images[:2]))
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    fall = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=STEPS)
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        rows = np.concatenate([rng.choice(np.flatnonzero(made == k), BATCH // 2) for k in (True, False)])
        turned = np.rot90(images[rows], rng.integers(4), axes=(1, 2))
        x = to_model(np.ascontiguousarray(turned[:, :, ::-1] if rng.integers(2) else turned))
        loss = F.binary_cross_entropy_with_logits(net(x)[:, 0], torch.from_numpy(made[rows]).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        fall.step()
    return net.eval()
