"""A control branch in an edit: the lines of the source are told to the denoiser all along, so that they stay.

The same lines are told on the way up and on the way down, so the anchored identity holds: no guidance, no change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfdiff.edit.cast import Cast
from cfdiff.edit.recipe import weights_name
from cfdiff.edit.settings import EditSettings
from cfdiff.errors import UserError
from cfdiff.models.adapters.diffusers_control import load_branch
from cfdiff.models.bundled import role_file, weights_folder
from cfdiff.models.checkpoint import Model, load_model
from cfdiff.models.control import Control, Controlled
from cfdiff.registry import CONTROLS
from cfdiff.roles import JOINED

NO_CONTROL = "none"


def controlled(cast: Cast, s: EditSettings, data: str) -> Cast:
    """The cast whose denoiser has the control branch that the settings ask for; the cast itself where they ask for
    none.

    Raises:
        UserError: there is no such branch, or it is of another size, of another denoiser or of other lines.
    """
    name, file = s.lock
    if name == NO_CONTROL:
        if file is not None:
            raise UserError(
                f"--control-model {file.name} is for --control {'|'.join(CONTROLS)}: say which lines are kept."
            )
        return cast
    of, path = cast.diffusion, _file(file, s, data)
    branch = load_branch(path, of, cast.device) if path.is_dir() else _own_branch(path, name, of, cast.device)
    both = f"{of.sha256}{JOINED}{branch.sha256}"
    return replace(cast, diffusion=replace(of, net=Controlled(of.net, branch.net).eval(), sha256=both))


def _own_branch(path: Path, name: str, of: Model, device: torch.device) -> Model:
    """A branch of ours, which knows what it reads and whose it is."""
    model = load_model(path, "control", device)
    branch = model.net
    assert isinstance(branch, Control)
    who = f"The control branch {model.name!r}"
    if branch.told.image != of.shape[:2]:
        own, (height, width, _) = branch.told.image, of.shape
        raise UserError(
            f"{who} was trained on images of {own[0]}x{own[1]} pixels, and the diffusion model {of.name!r} takes "
            f"{height}x{width}: train one for this (cfdiff train-control --diffusion)."
        )
    if branch.told.of != of.sha256:
        raise UserError(
            f"{who} was trained beside another diffusion model than {of.name!r}: train one for this "
            "(cfdiff train-control --diffusion)."
        )
    if branch.told.control != name:
        raise UserError(f"{who} reads {branch.told.control}, and --control asks for {name}: give the one it reads.")
    return model


def branch_beside(weights: str | None, data: str) -> Path | None:
    """The control branch that lies with the weights, or with those of bundled data; None where none does."""
    name = weights_name(weights, data)
    return None if name is None else role_file(weights_folder(name), "control")


def _file(file: Path | None, s: EditSettings, data: str) -> Path:
    if file is not None:
        return file
    if (found := branch_beside(s.weights, data)) is None:
        raise UserError(
            "--control needs a control branch, and none lies with the weights: train one (cfdiff train-control) and "
            "name it with --control-model."
        )
    return found


class Lock:
    """The control images of a batch, told to the denoiser for the rows at work."""

    def __init__(self, cast: Cast, s: EditSettings, images: np.ndarray, masks: np.ndarray | None) -> None:
        """Images (B, H, W, C) as stored; masks (B, H, W) bool, for the control "mask"."""
        net = cast.diffusion.net
        self.net = net if isinstance(net, Controlled) else None
        self.hints: Tensor | None = None
        if self.net is not None:
            lines = CONTROLS[s.lock[0]](images, masks)
            self.hints = torch.from_numpy(lines)[:, None].to(cast.device)

    @contextmanager
    def rows(self, rows: np.ndarray) -> Iterator[None]:
        """Within it the denoiser is asked for the images `rows` (n,) of the batch, all of them at each call."""
        if self.net is None or self.hints is None:
            yield
            return
        self.net.hint = self.hints[torch.from_numpy(rows)]
        try:
            yield
        finally:
            self.net.hint = None
