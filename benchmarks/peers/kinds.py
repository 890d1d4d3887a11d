"""The peers of the benchmark, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from cfdiff.engine import NoiseSource
from peers import ace, diffusers_loop, dime, exact, maskdime, sdedit, wolleb
from peers.networks import Networks

Edit = Callable[[Networks, Tensor, Tensor, Sequence[float], NoiseSource], list[Tensor]]


@dataclass(frozen=True)
class Peer:
    """A method.

    Attributes:
        edit: x (B, C, H, W) in [-1, 1], target (B,), scales, noise -> x' for each scale.
        scales: of which validation chooses one.
        val, test: images a direction at most, where it takes long.
        exact: it claims an exact inversion, so its null edit is measured too.
    """

    edit: Edit
    scales: tuple[float, ...]
    val: int | None = None
    test: int | None = None
    exact: bool = False


SCALES = (1.0, 3.0, 10.0, 30.0)
PEERS = {
    "diffusers, DDIM, 15 steps": Peer(diffusers_loop.ddim, SCALES, exact=True),
    "diffusers, DPM-Solver++, 8 steps": Peer(diffusers_loop.dpm, SCALES, exact=True),
    "SDEdit, guided, 30 steps": Peer(sdedit.edit, SCALES),
    "MaskDiME, 60 steps": Peer(maskdime.edit, SCALES[1:]),
    "EDICT, 15 steps": Peer(partial(exact.edit, "EDICT"), SCALES[:3], exact=True),
    "BDIA, 15 steps": Peer(partial(exact.edit, "BDIA"), SCALES[:3], exact=True),
    "BELM, 15 steps": Peer(partial(exact.edit, "BELM"), SCALES[:3], exact=True),
    "Wolleb, 100 levels": Peer(partial(wolleb.edit, levels=100), SCALES[1:], val=4, test=8),
    "ACE, 50 iterations": Peer(ace.edit, (10, 25, 50), val=2, test=4),
    "DiME, 30 steps": Peer(partial(dime.edit, levels=30), SCALES[1:], val=2, test=4),
}
"""Wolleb et al. walk 500 levels and DiME 60 steps: every fifth level, and half of the steps, make them faster here."""
