"""cfdiff evaluate: every figure of a finished run, from the saved images; all samples, and the flipped ones beside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch

from cfdiff.data.raw import file_sha256
from cfdiff.data.source import Source
from cfdiff.errors import UserError
from cfdiff.evaluate import figures
from cfdiff.evaluate.bags import achieved_mixes, bag_figures, judged_rows, per_bag
from cfdiff.evaluate.images import Measure, measure, pair_measurer
from cfdiff.evaluate.judge import Judge
from cfdiff.evaluate.masks import RULE, fixed_threshold, locate, read_masks, saliency_of
from cfdiff.evaluate.models import models_of
from cfdiff.evaluate.moved import moved_figures
from cfdiff.evaluate.noise import beside_real
from cfdiff.evaluate.output import check_outputs, write
from cfdiff.evaluate.pairs import find_twins, near_twins
from cfdiff.evaluate.realism import LEAST, compare, read_features, real_images
from cfdiff.evaluate.recall import recalls
from cfdiff.evaluate.result import BagsSection, Evaluation, JudgeFacts, RealisticSection, Section, WhereSection
from cfdiff.evaluate.settings import EvaluateSettings
from cfdiff.evaluate.trip import RoundTrip, round_trip, round_tripper, the_way_back
from cfdiff.metrics.columns import Columns, Figure
from cfdiff.progress import Progress
from cfdiff.roles import WITNESSES
from cfdiff.store.recall import Recall
from cfdiff.store.runs import Run, open_run
from cfdiff.workers.crew import Elsewhere, crew

QUESTIONS = {
    "valid": "Valid?",
    "minimal": "Minimal?",
    "faithful": "Faithful?",
    "realistic": "Realistic?",
    "noise": "Is the change noise?",
    "returns": "Does it return?",
    "where": "Where?",
    "bags": "Bags",
}


def evaluate(s: EvaluateSettings, progress: Progress | None = None) -> Evaluation:
    """Measure a finished run; the figures as docs/evaluate.md describes them, `as_json` for programs.

    Raises:
        UserError: the run, a model, the masks or an output cannot be used; said before the long computations.
    """
    check_outputs(s)
    if s.threads:
        torch.set_num_threads(s.threads)
    with open_run(s.run) as run:
        return _evaluate(s, run, progress or (lambda what, done, n: None))


def _evaluate(s: EvaluateSettings, run: Run, progress: Progress) -> Evaluation:
    # 1. Everything that can be wrong is found first.
    _check_options(s, run)
    models = models_of(s, run)
    judges, judge, space = models.judges, models.judge, models.space
    real = _real(s, run)
    recall = recalls(s, run, judges)
    masks = None if run.bags is not None else read_masks(s, run)
    where, why_not = _lesions(s, run, masks)
    threshold = _threshold(s, run) if where is not None else None
    twins = find_twins(s, run)
    back = the_way_back(s, run) if s.round_trip else None

    # 2. One pass over the pairs.
    asks = judge if judge is not None and judge.another else None
    pairs = Measure.of(run, s, models, maps=where is not None)
    with crew(s, lambda: pairs, Elsewhere(pair_measurer, (s, pairs.maps))) as workers:
        measured = measure(pairs, workers, _counter(progress, "measuring", len(run)))
    run.prob.update(measured.prob)
    decided_by = next((who for who in WITNESSES if who in run.prob), None)
    flipped = None if decided_by is None else run.flipped(decided_by)
    columns = Columns(len(run), run.groups, flipped, s.bootstrap, s.seed)
    values = measured.values

    # 3. The figures, by question.
    sections: dict[str, Section] = {
        "valid": _valid(run, columns, values, judges, recall),
        "minimal": _section("minimal", {}),
    }
    if models.faithful is not None:
        sections["faithful"] = _section("faithful", figures.faithful(values, columns), models.faithful)
    else:
        sections["faithful"] = _left("faithful", "--no-faithfulness" if s.faithfulness is False else _NO_JUDGE)
    if isinstance(real, str) or space is None or measured.features is None:
        without = _NO_JUDGE if judge is None else _NO_FEATURES
        no_judge = space is None and s.realism is not False and len(run) >= LEAST
        sections["realistic"] = _left("realistic", without if no_judge or not isinstance(real, str) else real)
    else:
        progress("real images", 0, len(real))
        features = read_features(real, space, s.batch_size)
        sections["realistic"] = RealisticSection(
            QUESTIONS["realistic"],
            compare(features, measured.features[1], space, columns, s.repeats, s.seed)
            | moved_figures(features, real.groups, measured.features, space, columns, s.repeats, s.seed),
            real_images=len(real),
            reference=real.name,
            features=space.name,
            features_sha256=space.sha256,
        )
    sections["noise"] = _section("noise", {})
    if back is not None:
        there = RoundTrip(run, back, judge)
        with crew(s, lambda: there, Elsewhere(round_tripper, (s,))) as workers:
            trip = round_trip(there, workers, s.batch_size, _counter(progress, "round trip", len(run)))
        sections["returns"] = _section("returns", figures.returns(run, trip, columns), judge)
        values |= trip
    if where is not None and measured.maps is not None:
        located = locate(measured.maps, where, columns, threshold, values, saliency_of(run))
        sections["where"] = WhereSection(QUESTIONS["where"], located.figures, rule=RULE, thresholds=located.thresholds)
    elif why_not is not None:
        sections["where"] = _left("where", why_not)
    if twins is not None:
        count = _counter(progress, "twins", int((twins.twin >= 0).sum()))
        sections["pair"] = near_twins(run, twins, columns, values, s.batch_size, count)
    if run.bags is not None:
        anew = None if asks is None else judged_rows(run.bags, asks, s.batch_size)
        achieved = achieved_mixes(run.bags, anew)
        sections["bags"] = BagsSection(
            QUESTIONS["bags"],
            bag_figures(run.bags, achieved, s.bootstrap, s.seed),
            judge=None if asks is None else asks.title,
            bags=per_bag(run.bags, achieved),
        )
    for name, found in figures.of_pairs(values, columns, s).items():
        sections[name] = _with(sections.get(name, _section(name, {})), found)
    beside = beside_real(run, None if isinstance(real, str) else real, values, columns, s.batch_size, s.seed)
    sections["noise"] = _with(sections["noise"], beside)
    if space is not None and measured.features is not None:
        likeness = figures.similarity(values, measured.features, columns, space)
        sections["minimal"] = _with(sections["minimal"], likeness)
    facts = _facts(run, judges)
    result = Evaluation(
        result=run.path.name,
        result_sha256=file_sha256(run.path),
        direction=run.direction,
        classes=tuple(run.classes),
        images=len(run),
        flipped=None if flipped is None else int(flipped.sum()),
        flipped_by=decided_by,
        groups=None if run.groups is None else len(np.unique(run.groups)),
        judge=next(iter(facts), None),
        judges=facts,
        settings=s.model_dump(mode="json", by_alias=True, exclude=_PLACES),
        sections=sections,
    )
    write(s, run, measured, result.as_json())
    return result


_NO_JUDGE = "no judge at hand: name one with --judge or --weights"
_NO_FEATURES = "the judge is no timm model and has no features: name one with --features"
_PLACES = {"run", "out", "save", "json_", "force", "device", "threads", "batch_size", "workers", "ray"} | {
    *("data", "splits", "masks", "reference", "judge", "weights", "threshold_from", "feature_weights"),
}


def _check_options(s: EvaluateSettings, run: Run) -> None:
    if run.bags is not None and (s.masks is not None or s.threshold_from is not None):
        raise UserError(
            f"{run.path.name} is a bag file, which has no masks: leave out --masks and --threshold-from, or evaluate "
            "a result of cfdiff translate."
        )


def _lesions(s: EvaluateSettings, run: Run, masks: np.ndarray | None) -> tuple[np.ndarray | None, str | None]:
    """The masks where one of them marks something; else why there is no localisation (None where nobody asked)."""
    asked = s.masks is not None or s.threshold_from is not None
    if masks is not None and masks.any():
        return masks, None
    if masks is None and asked:
        raise UserError(f"--threshold-from needs masks of {run.path.name}: name them with --masks or --data.")
    if masks is not None and s.masks is not None:
        raise UserError(
            f"No image of {run.path.name} has a lesion in its mask, so there is nothing to find: evaluate a run that "
            "starts from the positive class."
        )
    return None, None if masks is None else "no image has a lesion in its mask"


def _threshold(s: EvaluateSettings, run: Run) -> float | None:
    if s.threshold_from is None:
        return None
    with ExitStack() as stack:
        validation = stack.enter_context(open_run(s.threshold_from))
        return fixed_threshold(s, run, validation)


def _valid(
    run: Run, columns: Columns, values: dict[str, np.ndarray], judges: dict[str, Judge], recall: dict[str, Recall]
) -> Section:
    """The section of what the judges say; where there are several, each has a number and its own title."""
    if len(judges) > 1:
        names = {name: f"judge {i + 1}, {judge.title}" for i, (name, judge) in enumerate(judges.items())}
        found = figures.valid(run, columns, values, names, recall)
        return Section(QUESTIONS["valid"], found, judge=f"{len(judges)} judges")
    found = figures.valid(run, columns, values, {"judge": "the judge"} if "judge" in run.prob else {}, recall)
    return _section("valid", found, judges.get("judge"))


def _real(s: EvaluateSettings, run: Run) -> Source | str:
    """The real images to compare with, or why there is no comparison."""
    if s.realism is False:
        return "--no-realism"
    if len(run) < LEAST:
        return f"fewer than {LEAST} counterfactuals"
    real = real_images(s, run)
    if isinstance(real, str) and (s.realism or s.reference is not None):
        raise UserError(f"{'--realism' if s.realism else '--reference'} cannot be had, there are {real}.")
    return real


def _section(name: str, figures: dict[str, Figure], judge: Judge | None = None) -> Section:
    """A section of QUESTIONS, or of another name; with the classifier that its figures are of."""
    return Section(QUESTIONS.get(name, name), figures, judge=None if judge is None else judge.title)


def _with(section: Section, more: dict[str, Figure]) -> Section:
    return replace(section, figures={**section.figures, **more})


def _left(name: str, why: str) -> Section:
    return Section(QUESTIONS[name], {}, not_measured=why)


def _facts(run: Run, judges: dict[str, Judge]) -> tuple[JudgeFacts, ...]:
    """Of the judges at hand, or of the one whose word the file holds."""
    if judges:
        return tuple(JudgeFacts(judge.title, judge.model.sha256, not judge.another) for judge in judges.values())
    return (JudgeFacts("judge", run.models.get("judge"), True),) if "judge" in run.prob else ()


def _counter(progress: Progress, what: str, n: int) -> Callable[[int], None]:
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress(what, done, n)

    return step
