"""What is kept of the tries of a batch: the best one of each image so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cfdiff.data.values import mean_change
from cfdiff.edit.acceptance import Acceptance
from cfdiff.edit.ladder import Rung
from cfdiff.edit.realism import IN_VAIN, Realism
from cfdiff.edit.trim import trimmed, without_needless_regions


@dataclass
class Edits:
    """What a batch became; rows follow the images.

    Attributes:
        accepting: (N, 2) what `Cast.accepting` says of the images as saved; None where there is no such model.
        edit: (N,) the way of editing whose try was kept, a name in registry.EDITS.
        retries: rungs of its ladder, of all ways together.
        mask: (N, H, W) bool, where the image was allowed to change; None for anywhere.
        quarantined: no try gave finite pixels, so the source stands.
        saliency: (N, H, W) float32 in [0, 1], where the class stands, as `Strategy.saliency`; None where no way looked.
    """

    counterfactual: np.ndarray
    accepting: np.ndarray | None
    ratio: np.ndarray
    depth: np.ndarray
    retries: np.ndarray
    network_calls: np.ndarray
    guide_calls: np.ndarray
    mask: np.ndarray | None
    quarantined: np.ndarray
    edit: np.ndarray
    saliency: np.ndarray | None = None

    @classmethod
    def none(cls, images: np.ndarray, accepting: bool, ways: Sequence[str]) -> Edits:
        """Images (N, H, W, C) before any try; `accepting`: there is somebody who accepts."""
        n = len(images)
        return cls(
            images.copy(),
            np.zeros((n, 2), np.float32) if accepting else None,
            np.zeros(n, np.float32),
            np.zeros(n, np.float32),
            np.zeros(n, np.int16),
            np.zeros(n, np.int32),
            np.zeros(n, np.int32),
            None,
            np.zeros(n, bool),
            np.full(n, ways[0], dtype=f"U{max(map(len, ways))}"),
        )


@dataclass(frozen=True, eq=False)
class Tried:
    """Some images of a batch (`rows`), as read and as a try would save them (n, H, W, C), where it may differ, and
    whether that is a place that it drew anew."""

    rows: np.ndarray
    images: np.ndarray
    saved: np.ndarray
    finite: np.ndarray
    mask: Tensor | None
    anew: bool


class Kept:
    """The best try of each image of a batch: of those accepted the one that changes least; else of those that flip;
    else the one that came closest.

    Attributes:
        edits: what the batch becomes.
    """

    def __init__(
        self,
        edits: Edits,
        acceptance: Acceptance,
        realism: Realism,
        ids: Sequence[str],
        target: int,
    ) -> None:
        self.edits, self.acceptance, self.realism, self.target = edits, acceptance, realism, target
        self.names = np.array(ids)
        self.score = np.full((len(ids), 2), -np.inf)

    def flips(self, rows: np.ndarray) -> np.ndarray:
        """Which of some images flip as they are kept, (n,) bool; none where nobody accepts."""
        return np.asarray(self.score[rows, 0] >= 1)

    def offer(self, tried: Tried, rung: Rung, k: int, way: str) -> np.ndarray:
        """Keep the tries that are better than what is there, those of the k-th rung; which are accepted, (n,) bool."""
        if self.acceptance.there:
            saved, accepted, better = self._judged(tried, k)
        else:
            saved, accepted, better = tried.saved, tried.finite, np.ones(len(tried.rows), bool)
        best, kept = self.edits, tried.rows[better]
        best.counterfactual[kept] = saved[better]
        best.ratio[kept] = np.inf if rung.ratio is None else rung.ratio
        best.depth[kept], best.retries[tried.rows], best.edit[kept] = rung.depth, k, way
        best.quarantined[kept] = ~tried.finite[better]
        if tried.mask is not None:
            if best.mask is None:
                best.mask = np.full(best.counterfactual.shape[:3], k > 0)  # earlier tries were not held to any place
            best.mask[kept] = (tried.mask[:, 0] > 0).cpu().numpy()[better]
        elif best.mask is not None:
            best.mask[kept] = True
        return accepted

    def _judged(self, tried: Tried, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tries as trimmed (n, H, W, C), which are accepted, and which are better than what is kept."""
        rows, s = tried.rows, self.acceptance.s
        p, hit = self._asked(rows, tried.saved)
        hit = np.where(tried.finite, hit, -np.inf)  # a try that is not finite is worse than any other
        accepted, saved = hit >= self.acceptance.least, tried.saved
        if s.trim and len(some := np.flatnonzero(hit > 0.5)):
            saved = saved.copy()
            saved[some] = self._trimmed(tried, some, np.minimum(hit[some], s.trim))
            p[some], hit[some] = self._asked(rows[some], saved[some])
        if s.realism and k:  # the first try is the gentlest
            edited = np.flatnonzero((saved != tried.images).any(axis=(1, 2, 3)))
            unreal = np.zeros(len(rows), bool)
            # What does not even flip buys nothing with its strangeness.
            most = np.where(hit[edited] > 0.5, s.realism, min(s.realism, IN_VAIN))
            unreal[edited] = self.realism.ratio(rows[edited], saved[edited]) > most
            accepted, hit = accepted & ~unreal, np.where(unreal, -1.0, hit)
        # Flips before those that do not; among flips the smaller change, among the others the closer.
        flips, change = accepted | (hit > 0.5), mean_change(tried.images, saved)
        rank = np.stack([np.where(accepted, 2, flips), np.where(flips, -change, hit)], axis=1)
        better = np.array([tuple(new) > tuple(old) for new, old in zip(rank, self.score[rows], strict=True)])
        self.score[rows[better]] = rank[better]
        assert self.edits.accepting is not None
        self.edits.accepting[rows[better]] = p[better]
        return saved, accepted, better

    def _trimmed(self, tried: Tried, some: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The tries in places `some`, each with no more of its change than gives the target `wanted`."""
        images = tried.images[some]

        def sure(which: np.ndarray, less: np.ndarray) -> np.ndarray:
            return self._asked(tried.rows[some[which]], less)[1]

        saved = trimmed(images, tried.saved[some], sure, wanted)
        return without_needless_regions(images, saved, sure, wanted) if tried.anew else saved

    def _asked(self, rows: np.ndarray, saved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.acceptance.asked(saved, self.names[rows], self.target)
