"""The folder of a fit, and fit.json in it: what it is the fit of, and how far it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cfdiff.data.raw import file_sha256
from cfdiff.edit.recipe import NAME, NAMES
from cfdiff.engine.symmetry import Symmetry
from cfdiff.errors import UserError
from cfdiff.files import atomic, parse_json
from cfdiff.fit.plan import Precision, trainings
from cfdiff.store.output import own_folder
from cfdiff.store.owner import held

FORMAT = "cfdiff-fit-1"
CLASSES = ("negative", "positive")
LATER = ("space", "precision", "batch", "batches", "light", "begun")
"""Keys of fit.json that a fit of before does not have."""


@dataclass(frozen=True)
class State:
    """What fit.json holds.

    Attributes:
        of: what the fit depends on: data (fingerprint, name), seed and so on; another one is another fit.
        width, batch, augment, precision: what was found out of machine and data at first, kept so that a stopped fit
            goes on alike, however busy the machine is then.
        batches: the like of each classifier; one that is not there has what `cfdiff train-classifier` has by itself.
        used: seconds of each stage so far.
        done: stages that ended.
        space: where the diffusion model runs.
        begun: the classifiers that begin from the diffusion model.
        light: how much the light of images is varied for classifiers, as their settings say it.
    """

    of: dict[str, Any]
    width: int
    augment: Symmetry
    used: dict[str, float] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    space: str = "pixel"
    precision: Precision = "no"
    batch: int = 32
    batches: dict[str, int] = field(default_factory=dict)
    light: dict[str, float] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    def with_time(self, stage: str, seconds: float) -> State:
        """The stage took so many seconds in all."""
        return replace(self, used={**self.used, stage: seconds})

    def ended(self, stage: str) -> State:
        """The stage is done."""
        return self if stage in self.done else replace(self, done=(*self.done, stage))


class FitFolder:
    """One fit's folder. Everything in it is written whole or not at all, so a fit may be killed at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def splits(self) -> Path:
        return self.path / "splits.csv"

    @property
    def recipe(self) -> Path:
        return self.path / NAME

    def result(self, start: str) -> Path:
        """The result of a direction, by the class that it starts from; other files of it have that name too."""
        return self.path / f"{start}-to-{CLASSES[1 - CLASSES.index(start)]}.h5"

    @property
    def taken(self) -> bool:
        """Whether a fit is there, or a diffusion model, which no other fit goes on with."""
        return (self.path / "fit.json").exists() or (self.path / "diffusion").exists()

    def models(self) -> dict[str, str]:
        """The file of each model that is there -> its sha256."""
        return {str(path): file_sha256(path) for path in sorted(self.path.glob("*/model.safetensors"))}

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder.

        Raises:
            UserError: it cannot be written, or another fit is at work there.
        """
        own_folder(self.path)
        with held(self.path, "fit", "fit"):
            yield

    def read(self, of: dict[str, Any], force: bool) -> State | None:
        """What stands there of the same fit; None where there is nothing, or with `force` where it is another.

        Raises:
            UserError: the folder holds another fit, or models that no fit has made.
        """
        path = self.path / "fit.json"
        if not path.exists():
            if self.taken and not force:
                raise UserError(
                    f"{self.path} holds models that no fit has made: give another --out, or --force to replace them."
                )
            return None
        try:
            told = parse_json(path.read_text())
            later = {key: told[key] for key in LATER if key in told}
            if "batch" not in later:
                later["batch"] = self._batch_of_before()
            state = State(told["of"], told["width"], told["augment"], told["used"], tuple(told["done"]), **later)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if force:
                return None
            raise UserError(f"{path} is damaged: give another --out, or --force to start anew.") from error
        if state.of == of:
            return state
        if force:
            return None
        other = next(key for key in of if state.of.get(key) != of[key])
        raise UserError(
            f"{self.path} holds the fit of something else (its {other} differs): give another --out, or --force to "
            "replace it."
        )

    def clear(self) -> None:
        """Take away what another fit has left: its models, recipes, searches, results and card."""
        for role in {role for space in ("pixel", "latent") for role in trainings(space)}:
            shutil.rmtree(self.path / role, ignore_errors=True)
        named = (*(Path(name).stem for name in NAMES), "card", *(self.result(start).stem for start in CLASSES))
        for pattern in ("fit.json", "splits.csv", *(f"{stem}.*" for stem in named)):
            for path in filter(Path.is_file, self.path.glob(pattern)):
                path.unlink()

    def _batch_of_before(self) -> int:
        """What a fit trained with that did not write it down."""
        path = self.path / "diffusion" / "settings.json"
        return int(parse_json(path.read_text())["batch_size"]) if path.exists() else State.batch

    def write(self, state: State) -> None:
        """Write fit.json."""
        with atomic(self.path / "fit.json") as scratch:
            scratch.write_text(json.dumps({"format": FORMAT, **asdict(state)}, indent=1) + "\n")
