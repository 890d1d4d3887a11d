"""What the checks of `cfdiff doctor` look at: images and models, as far as they can be opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from cfdiff.data.match import Shape
from cfdiff.data.open import open_told
from cfdiff.data.source import Source, random_subset
from cfdiff.data.splitting import TEST, VAL, own_split
from cfdiff.data.values import to_model
from cfdiff.doctor.lines import Line
from cfdiff.doctor.settings import DoctorSettings
from cfdiff.edit.cast import Cast
from cfdiff.edit.ladder import ladder
from cfdiff.edit.roles import at_home, load_role, model_paths, pick_device
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Model
from cfdiff.models.ensemble import ensemble
from cfdiff.models.foreign import check_images
from cfdiff.registry import GUIDES
from cfdiff.roles import ROLES, STEERING

T = TypeVar("T")

PATH_IMAGES = 16
"""Images of the checks that walk the noise path, which take tens of network calls an image."""
GRID = (0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Noise levels of the checks by level, as fractions of T."""


@dataclass(frozen=True, eq=False)
class Context:
    """What could be opened. `images` (N, H, W, C) are as stored, negatives first; `models` need not fit the images."""

    s: DoctorSettings
    device: torch.device
    source: Source | None
    images: np.ndarray | None
    models: dict[str, Model]

    @cached_property
    def fitting(self) -> dict[str, Model]:
        """The models that take images of this size, by role; no guide that runs in another space."""
        if self.source is None:
            return {}
        found = {
            role: model for role, model in self.models.items() if model.takes(self.source.shape) == self.source.shape
        }
        if not at_home(found.get("diffusion"), found.get("guide")):
            del found["guide"]
        return found

    @cached_property
    def cast(self) -> Cast:
        """The fitting models as the cast of a run; needs the diffusion model."""
        roles: dict[str, Any] = {role: self.fitting.get(role) for role in ROLES}
        return Cast(**roles, device=self.device, precision=self.s.precision)

    @property
    def data(self) -> Source:
        """The source, where a check needs it."""
        assert self.source is not None
        return self.source

    @property
    def stored(self) -> np.ndarray:
        """The images, where a check needs them."""
        assert self.images is not None
        return self.images

    @cached_property
    def x0(self) -> Tensor:
        """The images as the networks take them, (N, C, H, W) float32 in [-1, 1]."""
        return to_model(self.stored).to(self.device)

    @cached_property
    def z0(self) -> Tensor:
        """The images in the space of the diffusion model, or where there is none in that of the guide."""
        alone = None if "diffusion" in self.models else self.fitting.get("guide")
        space = self.cast.space if alone is None else alone.space
        return self.batches(space.encode, self.x0)

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) 0 negative, 1 positive."""
        return self.data.labels.astype(np.int64)

    @property
    def ids(self) -> list[str]:
        """(N,) the names of the images."""
        return [str(i) for i in self.data.ids]

    @cached_property
    def path_rows(self) -> np.ndarray:
        """The images that walk the path: at most a batch, half of each class."""
        half = max(1, min(PATH_IMAGES, self.s.batch_size) // 2)
        return np.concatenate([np.flatnonzero(self.labels == k)[:half] for k in (0, 1)])

    @cached_property
    def top(self) -> int:
        """The noisiest level that a run may reach: that of the ladder's deepest rung."""
        return self.cast.schedule.level_of(max(rung.depth for rung in ladder(self.s)))

    def levels(self, T: int, *more: int) -> list[int]:
        """The levels of GRID up to `top`, `top` itself and `more`, for a schedule of T steps."""
        grid = {max(1, round(share * T)) for share in GRID}
        return sorted({level for level in (*grid, self.top, *more) if level <= self.top})

    def batches(self, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`f` over x (N, ...) a batch at a time, without gradients."""
        with torch.no_grad():
            return torch.cat([f(part) for part in x.split(self.s.batch_size)])

    def eps(self, cast: Cast, z: Tensor, level: int, rows: Any = slice(None)) -> Tensor:
        """eps of z (n, ...), the images `rows` at a level; told nothing, or their class where that may not be."""
        told = torch.from_numpy(self.labels[rows]).to(z.device)
        ask, batch = cast.denoise, self.s.batch_size
        with torch.no_grad():
            if ask.told_nothing:
                return torch.cat([ask(part, level) for part in z.split(batch)])
            pairs = zip(z.split(batch), told.split(batch), strict=True)
            return torch.cat([ask(part, level, here) for part, here in pairs])

    @property
    def ready(self) -> set[str]:
        """What there is of: data, images, both classes, each role that fits; "steering", all that guides and checks;
        and "masks", where --mask data needs them."""
        steering = {GUIDES[name].role for own in self.s.either for name in own.guide_names}
        if any(own.smooth for own in self.s.either):
            steering |= {"guide"}
        if self.s.closed_loop or self.s.retries:
            steering = steering | {"checker"}
        have = set(self.fitting)
        if self.source is not None:
            have |= {"data"} | ({"masks"} if self.s.mask != "data" or self.source.mask_reader is not None else set())
        if self.images is not None:
            have |= {"images"} | ({"both classes"} if len(set(self.labels.tolist())) == 2 else set())
        return have | ({"steering"} if steering <= have else set())


def open_context(s: DoctorSettings) -> tuple[Context, list[Line]]:
    """Open what the settings name; what cannot be opened is a failed line, and the rest goes on without it."""
    lines: list[Line] = []
    if s.threads:
        torch.set_num_threads(s.threads)
    device = attempt("device", lambda: pick_device(s.device), lines) or torch.device("cpu")
    source = attempt("data", lambda: open_images(s), lines)
    images = None if source is None else attempt("data", lambda: source.read(np.arange(len(source))), lines)
    models: dict[str, Model] = {}
    for role in ROLES:
        load = partial(_load, s, role, device, None if source is None else source.shape)
        model = attempt(f"model ({role})", load, lines)
        if model is not None:
            models[role] = model
    return Context(s, device, source, images, models), lines


def open_images(s: DoctorSettings) -> Source:
    """At most `limit` images, as many negatives as positives, negatives first."""
    source = open_told(s).narrow(s.split)
    if s.split is None:  # what a model was trained on would flatter it
        source = source.narrow(own_split(source, VAL, TEST))
    rows = []
    for label in (0, 1):
        mine = np.flatnonzero(source.labels == label)
        if len(mine):
            chosen = random_subset(source.select(mine), s.limit // 2, s.seed).ids
            rows.append(mine[np.isin(source.ids[mine], chosen)])
    return source.select(np.concatenate(rows))


def attempt(name: str, f: Callable[[], T], lines: list[Line]) -> T | None:
    """f(), or None and a failed line that says what the UserError said."""
    try:
        return f()
    except UserError as error:
        what, _, advice = str(error).partition(": ")
        lines.append(Line(name, "fail", what.rstrip("."), advice or "Mend this, then ask again."))
        return None


def _load(s: DoctorSettings, role: str, device: torch.device, images: Shape | None) -> Model | None:
    models = [load_role(path, role, device) for path in model_paths(s, s.data, role)]
    for model in models:
        if images is not None and model.takes(images) == images:
            check_images(model, images, steers=role in STEERING)
    return ensemble(models)
