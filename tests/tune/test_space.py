from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from exact import ExactDiffusion, model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cfdiff.edit.cast import Cast
from cfdiff.edit.editor import Editor
from cfdiff.engine import NoiseSchedule, make_tau
from cfdiff.errors import UserError
from cfdiff.models.checkpoint import Card, Model
from cfdiff.tune.settings import TUNED, Tunable, TuneSettings
from cfdiff.tune.space import AFTER, KNOWN, RANGES, allowed, known, settle, space


def conditional(cast: Cast) -> Cast:
    """The same, with a diffusion model that may be told a class."""
    told = replace(cast.diffusion, card=replace(cast.diffusion.card, condition="class"))
    return replace(cast, diffusion=told)


def choices(ranges: dict[str, Any], name: str) -> set[str]:
    found = ranges[name]
    assert isinstance(found, CategoricalDistribution)
    return {str(choice) for choice in found.choices}


def test_every_setting_that_can_be_named_has_a_range() -> None:
    assert set(RANGES) == set(get_args(Tunable)) and set(TUNED) <= set(RANGES)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    T=st.sampled_from([20, 100, 1000]),
    depth=st.floats(0.05, 1.0),
    steps=st.integers(1, 50),
    tune=st.sets(st.sampled_from(sorted(RANGES)), min_size=1),
    target=st.floats(0.6, 1.0),
    edit=st.sampled_from(["anchored", "regenerate", "auto"]),
)
def test_all_in_the_ranges_is_possible_and_they_hold_the_start(
    exact_cast: Cast, T: int, depth: float, steps: int, tune: set[Any], target: float, edit: str
) -> None:
    schedule = NoiseSchedule.cosine(T)
    card = Card("diffusion", {}, schedule.config, {}, {})
    cast = replace(exact_cast, diffusion=Model(ExactDiffusion(), card, "sha", "toy"))
    steps = min(steps, schedule.level_of(depth))
    redraw = min(20, schedule.level_of(0.8))
    s = TuneSettings(
        depth=depth, steps=steps, tune=tuple(sorted(tune)), target=target, edit=edit, redraw_steps=redraw
    )  # fmt: skip
    try:
        ranges = space(s, cast)
    except UserError:
        assert not set(TUNED) - {"w"} & tune, "for those there is always a choice"
        return
    assert set(ranges) <= tune
    assert all(allowed(getattr(s, name), within) for name, within in ranges.items())
    lowest = getattr(ranges.get("depth"), "low", s.depth)
    most = getattr(ranges.get("steps"), "high", s.steps)
    assert len(make_tau(schedule, lowest, most)) == most + 1
    shallow = getattr(ranges.get("redraw_depth"), "low", s.redraw_depth)
    if "edit" in ranges or edit != "anchored":
        assert len(make_tau(schedule, shallow, redraw)) == redraw + 1
    for values in known(s, ranges, cast):
        Editor(cast, s.model_copy(update=values))


def test_what_the_models_cannot_use_is_left_out(exact_cast: Cast) -> None:
    whole = space(TuneSettings(), exact_cast)
    assert set(whole) == set(TUNED) - {"w"} and choices(whole, "guides") == {"noisy", "clean", "both"}
    assert choices(whole, "solver") == {"ddim", "dpm++", "unipc"}
    assert choices(whole, "edit") == {"anchored", "regenerate", "anchored+regenerate", "auto"}
    told = space(TuneSettings(), conditional(exact_cast))
    assert set(told) == set(TUNED)
    assert choices(told, "guides") >= {"both", "cfg", "noisy+cfg", "clean+cfg", "noisy+clean+cfg"}
    blind = space(TuneSettings(guides="clean"), replace(exact_cast, guide=None))
    assert "guides" not in blind, "one that can steer is no choice"
    weak = replace(exact_cast, guide=model(exact_cast.guide.net, "noisy-classifier", **AT_CHANCE))  # type: ignore[union-attr]
    assert "guides" not in space(TuneSettings(guides="clean"), weak)


AT_CHANCE = {"validation": {"val_accuracy_by_level": {"10": 0.5, "50": 0.5}}}


def test_a_start_that_is_no_usual_choice_stays_one(exact_cast: Cast) -> None:
    found = space(TuneSettings(solver="heun", guides="clean+noisy", steps=2, w=20), conditional(exact_cast))
    assert "heun" in choices(found, "solver") and "clean+noisy" in choices(found, "guides")
    steps, w = found["steps"], found["w"]
    assert isinstance(steps, IntDistribution) and steps.low == 2
    assert isinstance(w, FloatDistribution) and w.high == 20


def test_settings_of_the_drawing_are_searched_where_anything_may_be_drawn(exact_cast: Cast) -> None:
    redraw: Any = ("redraw_share", "redraw_depth", "redraw_ratio")
    assert set(space(TuneSettings(tune=("steps", *redraw)), exact_cast)) == {"steps"}
    assert set(space(TuneSettings(tune=("edit", *redraw)), exact_cast)) == {"edit", *redraw}
    assert set(space(TuneSettings(tune=redraw, edit="auto"), exact_cast)) == set(redraw)
    by_mass = space(TuneSettings(tune=(*redraw, "redraw_mass"), edit="auto", redraw_mass=0.2), exact_cast)
    assert set(by_mass) == {"redraw_mass", "redraw_depth", "redraw_ratio"}, "the share does nothing beside it"
    with pytest.raises(UserError, match="nothing to search: .* no choice for redraw_share, redraw_depth, redraw_ratio"):
        space(TuneSettings(tune=redraw), exact_cast)


def test_the_start_comes_first_then_a_cheap_way_then_both_ways_of_editing(exact_cast: Cast) -> None:
    s = TuneSettings(ratio=0.2)
    ranges = space(s, exact_cast)
    start, cheap, both, drawn = known(s, ranges, exact_cast)
    assert start == {name: getattr(s, name) for name in ranges}
    assert cheap == {**start, "solver": "dpm++", "steps": 8} and both == {**start, "edit": AFTER}
    assert drawn == {**start, "edit": "regenerate"}
    quick = TuneSettings(solver="dpm++", steps=8)
    again = known(quick, space(quick, exact_cast), exact_cast)
    assert len(again) == len(KNOWN), "what the start is already is not tried again"
    few = TuneSettings(tune=("ratio", "steps"))
    assert len(known(few, space(few, exact_cast), exact_cast)) == 1
    seen = {"validation": {"val_accuracy_by_level": {"0": 0.9, "10": 0.9, "50": 0.9}}}
    far = replace(exact_cast, guide=model(exact_cast.guide.net, "noisy-classifier", **seen))  # type: ignore[union-attr]
    assert known(s, ranges, far) == [start, cheap, both, drawn, {**start, "depth": 0.5}]


def test_what_does_nothing_beside_the_rest_is_left_at_the_start() -> None:
    s = TuneSettings(ratio=0.2, w=4)
    drawn = settle({"edit": "regenerate", "ratio": 0.7, "guides": "both", "w": 9, "redraw_share": 0.1}, s)
    assert drawn == {"edit": "regenerate", "ratio": 0.2, "guides": "both", "w": 4, "redraw_share": 0.1}
    nudged = settle({"edit": "anchored", "ratio": 0.7, "guides": "noisy+cfg", "w": 9, "redraw_share": 0.1}, s)
    assert nudged == {"edit": "anchored", "ratio": 0.7, "guides": "noisy+cfg", "w": 9, "redraw_share": s.redraw_share}
