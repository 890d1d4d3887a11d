"""Features of stored images."""

from __future__ import annotations

import numpy as np
import torch

from cfdiff.data.values import to_model
from cfdiff.models.features import Extract


@torch.no_grad()
def features_of(extract: Extract, images: np.ndarray) -> np.ndarray:
    """(B, D) float32 of stored images."""
    return extract(to_model(images)).cpu().numpy()
