"""What a search may do with each setting: the range of its values, as far as the models at hand can use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from cfdiff.edit.cast import Cast
from cfdiff.edit.settings import EditSettings
from cfdiff.errors import UserError
from cfdiff.registry import EDITS, GUIDES, SOLVERS
from cfdiff.tune.settings import TuneSettings
from cfdiff.tune.trial import Value, Values

DEPTH, STEPS, REDRAW_DEPTH = (0.15, 0.7), (4, 40), (0.5, 0.9)
QUICK = ("ddim", "dpm++", "unipc")
"""Solvers that are worth a try: one call a step and the same image each time. ddpm draws noise, heun asks twice."""
TOGETHER = ("noisy", "clean", "both", "cfg", "noisy+cfg", "clean+cfg", "noisy+clean+cfg")
CHEAP: Values = {"solver": "dpm++", "steps": 8}
AFTER = "+".join(EDITS)
"""All ways of editing, each for what those before it did not get accepted."""
KNOWN: tuple[Values, ...] = (CHEAP, {"edit": AFTER}, {"edit": "regenerate"})
"""What is tried right after the start, each with the start's other settings: a cheap way that is good on most data,
and what is accepted more often where the other class is another shape."""


@dataclass(frozen=True)
class Range:
    """What may be searched of a setting.

    Attributes:
        of: its values, which hold the start's; None where there is nothing to choose between.
        matters: whether it does anything beside the other settings.
    """

    of: Callable[[TuneSettings, Cast], BaseDistribution | None]
    matters: Callable[[EditSettings], bool] = lambda s: True


def space(s: TuneSettings, cast: Cast) -> dict[str, BaseDistribution]:
    """The range of each tuned setting that the models can use; any steps in it fit into any depth.

    Raises:
        UserError: none is left.
    """
    found = {str(name): RANGES[name].of(s, cast) for name in s.tune}
    ranges = {name: allowed for name, allowed in found.items() if allowed is not None}
    if not ranges:
        raise UserError(
            f"There is nothing to search: these models and settings leave no choice for {', '.join(s.tune)}; name "
            "others with --tune."
        )
    return ranges


def known(s: TuneSettings, ranges: dict[str, BaseDistribution], cast: Cast) -> list[Values]:
    """The first trials: the start, then KNOWN and the guide's own depth, each where it is tuned, allowed, and other."""
    start: Values = {name: getattr(s, name) for name in ranges}
    tried = [start]
    depth = cast.fitting_depth
    own: tuple[Values, ...] = () if depth is None else ({"depth": depth},)
    for some in (*KNOWN, *own):
        if all(name in ranges and allowed(value, ranges[name]) for name, value in some.items()):
            values = settle(start | some, s)
            tried += [values] if values not in tried else []
    return tried


def allowed(value: Value, within: BaseDistribution) -> bool:
    """Whether a range holds a value."""
    if isinstance(within, CategoricalDistribution):
        return value in within.choices
    assert isinstance(within, FloatDistribution | IntDistribution) and not isinstance(value, str)
    return within.low <= value <= within.high


def settle(values: Values, s: TuneSettings) -> Values:
    """What does nothing beside the other values as the start has it, so that the same edit is not tried twice."""
    whole = s.model_copy(update=values)
    return {name: value if RANGES[name].matters(whole) else getattr(s, name) for name, value in values.items()}


def _fraction(name: str, low: float, high: float, log: bool = False) -> Callable[..., BaseDistribution | None]:
    """A number between two, and as far beyond as the start is."""

    def of(s: TuneSettings, cast: Cast) -> BaseDistribution | None:
        start = getattr(s, name)
        return None if start is None else FloatDistribution(min(low, start), max(high, start), log=log)

    return of


def _depth(s: TuneSettings, cast: Cast) -> BaseDistribution:
    return FloatDistribution(_path(s, cast)[0], max(DEPTH[1], s.depth))


def _steps(s: TuneSettings, cast: Cast) -> BaseDistribution:
    return IntDistribution(min(STEPS[0], s.steps), _path(s, cast)[1])


def _path(s: TuneSettings, cast: Cast) -> tuple[float, int]:
    """The smallest depth and the most steps, which fit into it."""
    T = cast.schedule.T
    shallow = min(DEPTH[0], s.depth) if "depth" in s.tune else s.depth
    if "steps" not in s.tune:
        shallow = max(shallow, min(s.depth, s.steps / T))
    most = max(s.steps, min(STEPS[1], cast.schedule.level_of(shallow)))
    return max(shallow, min(s.depth, most / T)), most


def _confidence(name: str) -> Callable[..., BaseDistribution]:
    def of(s: TuneSettings, cast: Cast) -> BaseDistribution:
        start = getattr(s, name)
        return FloatDistribution(min(s.margin, start), max(0.99, s.margin, start))

    return of


def _words(start: str, others: list[str]) -> BaseDistribution | None:
    """The start, and what else there is; None where that is nothing."""
    choices = [start, *(word for word in others if word != start)]
    return CategoricalDistribution(choices) if len(choices) > 1 else None


def _solver(s: TuneSettings, cast: Cast) -> BaseDistribution | None:
    return _words(s.solver, [name for name in QUICK if name in SOLVERS])


def _guides(s: TuneSettings, cast: Cast) -> BaseDistribution | None:
    return _words(s.guides, [names for names in TOGETHER if _can_steer(names, s, cast)])


def _can_steer(names: str, s: TuneSettings, cast: Cast) -> bool:
    """Whether the models of all these guides are there and can steer."""
    asked = s.model_copy(update={"guides": names})
    for kind in (GUIDES[name] for name in asked.guide_names):
        if getattr(cast, kind.role) is None or (kind.role == "guide" and cast.guide_max_level == 0):
            return False
        try:
            kind.make(cast, asked)
        except UserError:
            return False
    return True


def _w(s: TuneSettings, cast: Cast) -> BaseDistribution | None:
    possible = "guides" in s.tune and _can_steer("cfg", s, cast)
    return _fraction("w", 0.5, 10)(s, cast) if possible or "cfg" in s.guide_names else None


def _edit(s: TuneSettings, cast: Cast) -> BaseDistribution | None:
    """Drawing anew needs somebody who finds the place, and levels enough for its steps."""
    finds = cast.checker is not None or (cast.guide is not None and cast.guide_max_level != 0)
    fits = finds and s.redraw_steps <= cast.schedule.level_of(s.redraw_depth)
    return _words(s.edit, [*EDITS, AFTER, "auto"] if fits else [])


def _redraw_depth(s: TuneSettings, cast: Cast) -> BaseDistribution:
    """Deep enough for its steps, where the start is."""
    lowest = max(min(REDRAW_DEPTH[0], s.redraw_depth), min(s.redraw_depth, s.redraw_steps / cast.schedule.T))
    return FloatDistribution(lowest, max(REDRAW_DEPTH[1], s.redraw_depth))


def _share(s: TuneSettings, cast: Cast) -> BaseDistribution | None:
    """None where the place is told by what it holds."""
    return _fraction("redraw_share", 0.01, 0.2, log=True)(s, cast) if s.redraw_mass is None else None


def _of_redrawing(of: Callable[..., BaseDistribution | None]) -> Callable[..., BaseDistribution | None]:
    """A range of the regenerating edit, where that is given or searched."""

    def ask(s: TuneSettings, cast: Cast) -> BaseDistribution | None:
        there = s.edit != "anchored" or ("edit" in s.tune and _edit(s, cast) is not None)
        return of(s, cast) if there else None

    return ask


def _along_the_path(s: EditSettings) -> bool:
    return s.edit != "regenerate"


def _drawn_anew(s: EditSettings) -> bool:
    return s.edit != "anchored"


RANGES: dict[str, Range] = {
    "solver": Range(_solver),
    "steps": Range(_steps, _along_the_path),
    "depth": Range(_depth, _along_the_path),
    "ratio": Range(_fraction("ratio", 0.05, 1.0, log=True), _along_the_path),
    "guides": Range(_guides),
    "w": Range(_w, lambda s: "cfg" in s.guide_names),
    "edit": Range(_edit),
    "scale": Range(_fraction("scale", 2.0, 100.0, log=True), lambda s: s.guide_names != ["cfg"]),
    "target": Range(_confidence("target")),
    "accept": Range(_confidence("accept")),
    "retries": Range(lambda s, cast: IntDistribution(0, max(6, s.retries)), _along_the_path),
    "redraw_share": Range(_of_redrawing(_share), lambda s: _drawn_anew(s) and s.redraw_mass is None),
    "redraw_mass": Range(_of_redrawing(_fraction("redraw_mass", 0.05, 0.6, log=True)), _drawn_anew),
    "redraw_depth": Range(_of_redrawing(_redraw_depth), _drawn_anew),
    "redraw_ratio": Range(_of_redrawing(_fraction("redraw_ratio", 0.1, 2.0, log=True)), _drawn_anew),
}
"""Every setting that a search knows, of the names in `settings.Tunable`; each range holds the start's value."""
