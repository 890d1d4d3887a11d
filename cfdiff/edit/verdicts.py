"""What is stored of an edit: the images, how they were made, and what the classifiers say of them as saved."""

from __future__ import annotations

import numpy as np

from cfdiff.data.values import to_model, unit
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.kept import Edits
from cfdiff.models.checkpoint import Model
from cfdiff.roles import WITNESSES
from cfdiff.store.schema import QUARANTINED


def edit_arrays(
    cast: Cast, images: np.ndarray, ids: list[str], labels: np.ndarray, target: int, edits: Edits
) -> dict[str, np.ndarray]:
    """The arrays of edits (B, H, W, C) of `images` to the class `target`, named as in store.schema.SCHEMA."""
    # Depth 0 is an image that never left level 0: frozen in a jointly edited bag.
    levels = [cast.schedule.level_of(float(depth)) if depth else 0 for depth in edits.depth]
    return {
        "id": np.array(ids),
        "label": labels,
        "target": np.full(len(ids), target, np.int8),
        "source": images,
        "counterfactual": edits.counterfactual,
        "difference": (unit(edits.counterfactual) - unit(images)).astype(np.float16),
        "guidance/edit": edits.edit,
        "guidance/ratio": edits.ratio,
        "guidance/depth": edits.depth,
        "guidance/alpha_bar": cast.schedule.alpha_bar[levels].numpy().astype(np.float32),
        "guidance/retries": edits.retries,
        "guidance/network_calls": edits.network_calls,
        "guidance/guide_calls": edits.guide_calls,
        **({} if edits.saliency is None else {"saliency": edits.saliency.astype(np.float16)}),
        **verdicts(cast, images, edits, target),
    }


def verdicts(cast: Cast, images: np.ndarray, edits: Edits, target: int) -> dict[str, np.ndarray]:
    """What judge, verifier and checker say before and after, on the saved values; `flipped` is the judge's word.

    A quarantined image has not flipped, whatever the judge says of its source.
    """
    stages = [to_model(stage).to(cast.device) for stage in (images, edits.counterfactual)]
    arrays: dict[str, np.ndarray] = {}
    for who in WITNESSES:
        model: Model | None = getattr(cast, who)
        if model is None:
            continue
        known = edits.accepting if model is cast.accepting else None  # asked already, of the images as saved
        after = probabilities(model, stages[1]).numpy() if known is None else known
        arrays[f"prob/{who}"] = np.stack([probabilities(model, stages[0]).numpy(), after], axis=1)
    decided = next((p[:, 1, target] > 0.5 for p in arrays.values()), None)
    if "prob/judge" in arrays:
        arrays["flipped"] = arrays["prob/judge"][:, 1, target] > 0.5
        arrays["flipped"] &= ~edits.quarantined
    status = "not judged" if decided is None else np.where(decided, "ok", "not flipped")
    return {**arrays, "status": np.where(edits.quarantined, QUARANTINED, status)}
