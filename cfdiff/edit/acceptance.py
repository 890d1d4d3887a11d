"""Who accepts an edit, and how sure of it they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.settings import EditSettings
from cfdiff.engine import NoiseSource, q_sample
from cfdiff.engine.symmetry import views


class Acceptance:
    """The verifier of a cast, or the checker where there is none, asked as the settings say.

    Attributes:
        least: how sure it must be of the class asked for.
    """

    def __init__(self, cast: Cast, s: EditSettings) -> None:
        self.cast, self.s = cast, s
        self.least = min(s.accept, s.target)  # the closed loop stops at `target`: more would be luck

    @property
    def there(self) -> bool:
        """Whether anybody accepts."""
        return self.cast.accepting is not None

    def asked(self, saved: np.ndarray, ids: Sequence[str], target: int) -> tuple[np.ndarray, np.ndarray]:
        """What who accepts says of saved images: p (n, 2), and how sure of the target that makes, (n,).

        With `views`, the least sure of the mirror images counts: what is a lesion is one either way round, and what
        only fools a network seldom is.
        Smoothed, if the settings say so, it must be as sure as unsmoothed: the smaller of both counts. The mean alone
        would let the guide, which steered and is sure of what it did, outvote a verifier that is not convinced.
        A verifier alone can be fooled by what is no image any more, with which the checker was never content: where
        the checker gives the target less than 1/2, both say of it no more than that.
        """
        cast = self.cast
        assert cast.accepting is not None
        x = to_model(saved).to(cast.device)
        p = probabilities(cast.accepting, x).numpy()
        hit = p[:, target]
        if self.s.views != "none":  # else there is no other, and nothing to copy for it
            for view in views(x, self.s.views)[1:]:
                hit = np.minimum(hit, probabilities(cast.accepting, view).numpy()[:, target])
        if self.s.smooth:
            hit = np.minimum(hit, self._smoothed(saved, p, ids)[:, target])
        if cast.seconding is None:
            return p, hit
        steered = probabilities(cast.seconding, x).numpy()[:, target]
        return p, np.where(steered < 0.5, np.minimum(hit, steered), hit)

    def _smoothed(self, saved: np.ndarray, p: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """p (n, 2) of the saved images, averaged in log with what the guide says of them at the depths of `smooth`.

        A change that fools a clean classifier drowns in noise; one that is real does not, up to the guide's limit.
        """
        cast = self.cast
        z = cast.space.encode(to_model(saved).to(cast.device))
        noise = NoiseSource(self.s.seed, [f"smooth/{i}" for i in ids])
        told = [torch.from_numpy(p).log()]
        with torch.no_grad():
            for depth in self.s.smooth:
                level = cast.schedule.level_of(depth)
                told.append(cast.guide_log_prob(q_sample(cast.schedule, z, level, noise.like(z)), level).float().cpu())
        # The guide knows no third class: what the accepting classifier gives to such stays as it is.
        share = p.sum(1, keepdims=True)
        return torch.stack(told).mean(0).softmax(dim=1).numpy() * np.where(share < 0.999, share, 1)
