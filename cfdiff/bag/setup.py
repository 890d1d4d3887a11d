"""Everything a bag run knows before it computes: data, models, bags, labels, ranking, goals. All mistakes show here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cfdiff.bag.mixes import parse_mixes
from cfdiff.bag.plan import Bag, Goal, Instances, make_bags, make_goal, read_ids
from cfdiff.bag.settings import BAG_PLACES, BagSettings
from cfdiff.data.open import open_told
from cfdiff.data.seen import Seen
from cfdiff.data.source import Source
from cfdiff.data.splitting import TEST, own_split
from cfdiff.data.values import to_model
from cfdiff.edit.cast import Cast, probabilities
from cfdiff.edit.roles import load_cast, model_paths
from cfdiff.edit.sight import Sight
from cfdiff.edit.tiling import tiles_of
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Model
from cfdiff.models.foreign import classes_of
from cfdiff.registry import POLICIES
from cfdiff.store.output import parts_dir


@dataclass(frozen=True, eq=False)
class Setup:
    """A planned run.

    Attributes:
        label_from: (N,) "data" or "judge".
        settings: what the result depends on, as it is stored.
        seen: what the data's digest is kept by; None in a worker.
    """

    s: BagSettings
    source: Source
    cast: Cast
    bags: list[Bag]
    instances: Instances
    label_from: np.ndarray
    goals: list[Goal]
    settings: dict[str, Any]
    seen: Seen | None = None

    def at_once(self, number: int) -> Setup:
        """The same run with that batch size."""
        s = self.s.model_copy(update={"batch_size": number})
        return replace(self, s=s, settings={**self.settings, "batch_size": number})


def set_up(s: BagSettings, out: Path | None = None) -> Setup:
    """Open data and models and plan every bag at every mix. `out` is the result, beside which the parts lie.

    Raises:
        UserError: any of them cannot be used as asked, or a mix cannot be reached.
    """
    mixes = parse_mixes(s.mix, s.sweep, s.counts)
    _check_options(s)
    source = _open(s)
    bags = make_bags(source, s.bag_size, s.bags, s.replacement, s.seed)
    frozen = np.zeros(len(source), bool)
    if s.freeze is not None:
        frozen[read_ids(str(s.freeze), "--freeze", source.ids, source.name)] = True
    listed = None
    if s.select.startswith("ids:"):
        listed = read_ids(s.select.removeprefix("ids:"), "--select", source.ids, source.name)
    strata = None if s.stratify is None else source.column(s.stratify, "--stratify")
    cast = load_cast(s, s.data, source, tiles_of(s))
    _check_models(s, cast)

    labels, label_from = _labels(s, source, cast)
    instances = Instances(labels, _preferences(s, source, cast, labels, listed), _noisy(s), frozen, strata)
    goals = [
        make_goal(b, bag, mix, instances, s.seed)
        for b, bag in enumerate(bags)
        for mix in mixes.within(bag.name, len(bag), s.seed)
    ]
    seen = None if out is None else Seen(source, parts_dir(out))
    settings = {
        **s.model_dump(mode="json", exclude=BAG_PLACES, by_alias=True),
        "select": s.select if listed is None else {"ids": source.ids[listed].tolist()},
        "freeze": source.ids[frozen].tolist(),
        "command": "bag",
        "data": source.name,
        "data_sha256": (seen.source if seen else source).fingerprint,
        "classes": list(source.classes),
        **cast.facts,
    }
    return Setup(s, source, cast, bags, instances, label_from, goals, settings, seen)


@dataclass(frozen=True, eq=False)
class Plan:
    """A planned run without its data and models: what a worker is sent, which opens those itself."""

    s: BagSettings
    bags: list[Bag]
    instances: Instances
    label_from: np.ndarray
    goals: list[Goal]
    settings: dict[str, Any]
    seen: Sight

    @classmethod
    def of(cls, setup: Setup) -> Plan:
        """That of a run that is set up."""
        seen = Sight.of(setup.source, setup.cast)
        return cls(setup.s, setup.bags, setup.instances, setup.label_from, setup.goals, setup.settings, seen)

    def set_up(self) -> Setup:
        """The run again, with the data and models of this process.

        Raises:
            UserError: they cannot be opened, or are others than those of the process that planned.
        """
        source = _open(self.s)
        cast = load_cast(self.s, self.s.data, source, tiles_of(self.s))
        self.seen.check(source, cast)
        return Setup(self.s, source, cast, self.bags, self.instances, self.label_from, self.goals, self.settings)


def prob_of(model: Model, source: Source, rows: np.ndarray, device: Any, batch: int = 256) -> np.ndarray:
    """p(class | image) of stored images of a source, (len(rows), 2) float32."""
    parts = [
        probabilities(model, to_model(source.read(rows[i : i + batch])).to(device)).numpy()
        for i in range(0, len(rows), batch)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.float32)


def _open(s: BagSettings) -> Source:
    judged = s.others == "judge"
    whole = open_told(s, keep_other=judged, unlabelled=_judges_classes(s) if judged else None)
    return whole.narrow(s.split or own_split(whole, TEST))


def _judges_classes(s: BagSettings) -> tuple[str, str] | None:
    """The classes that the judge tells apart, which label what the data does not; None without a judge."""
    path = next(iter(model_paths(s, s.data, "judge")), None)
    return None if path is None else classes_of(path)


def _check_options(s: BagSettings) -> None:
    if s.counts is not None and s.sweep is None and "mix" in s.model_fields_set:
        raise UserError("--counts takes the place of --mix: give one of the two, or --counts beside a --sweep.")
    if s.mode == "joint":
        if s.select != "uniform" or s.stratify is not None:
            raise UserError(
                "--mode joint chooses by itself: leave out --select and --stratify, or use --mode instance."
            )
        if s.mask not in ("none", "object") or any(own.exact for own in s.either):
            raise UserError(
                "--mode joint takes neither --mask auto or data nor --exact: leave them out, or use --mode instance."
            )
        if s.tile is not None:
            raise UserError("--mode joint takes whole images only: leave out --tile, or use --mode instance.")
    if s.tile is not None and s.export is not None and s.features is None:
        raise UserError(
            "--export takes the judge's features, and with --tile that sees tiles only: name a timm model with "
            "--features."
        )
    if s.feature_weights is not None and s.features is None:
        raise UserError("--feature-weights are those of a timm model: name it with --features.")


def _check_models(s: BagSettings, cast: Cast) -> None:
    if cast.checker is None:
        needs = None
        if s.select in POLICIES and POLICIES[s.select].asks:
            needs = f"--select {s.select}"
        elif s.mode == "joint":
            needs = "--mode joint"
        elif s.on_fail in ("replace", "error"):
            needs = f"--on-fail {s.on_fail}"
        if needs is not None:
            raise UserError(f"{needs} asks the checker, and there is none: name one with --checker.")
    for option, asked in (("--preview", s.preview), ("--export", s.export)):
        if asked is not None and cast.judge is None and (option == "--preview" or s.features is None):
            raise UserError(f"{option} needs the judge, and there is none: name one with --judge.")


def _labels(s: BagSettings, source: Source, cast: Cast) -> tuple[np.ndarray, np.ndarray]:
    """(N,) labels 0 or 1, and whether the data or the judge gave each."""
    labels, unknown = source.labels.copy(), np.flatnonzero(source.labels < 0)
    label_from = np.where(source.labels < 0, "judge", "data")
    if len(unknown):
        if cast.judge is None:
            raise UserError(
                f"{source.name} does not say of {len(unknown)} instances whether they are negative or positive: "
                "name a --judge, or leave them out with --others drop."
            )
        labels[unknown] = prob_of(cast.judge, source, unknown, cast.device)[:, 1] >= s.threshold
    return labels, label_from


def _preferences(
    s: BagSettings, source: Source, cast: Cast, labels: np.ndarray, listed: np.ndarray | None
) -> np.ndarray:
    if listed is not None:  # the order of the file; nothing else may be chosen
        preference = np.full(len(source), -np.inf)
        preference[listed] = -np.arange(len(listed), dtype=np.float64)
        return preference
    policy = POLICIES[s.select]
    if not policy.asks:
        return policy.score(np.full(len(source), np.nan), labels)
    assert cast.checker is not None
    p = prob_of(cast.checker, source, np.arange(len(source)), cast.device)[:, 1]
    score = policy.score(p, labels)
    return score if math.isclose(s.temperature, 0) else score / s.temperature


def _noisy(s: BagSettings) -> bool:
    """Whether the draw is random: a list of ids, or temperature 0, is followed as it is."""
    return s.select in POLICIES and (not POLICIES[s.select].asks or s.temperature > 0)
