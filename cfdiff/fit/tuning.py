"""The stage of a fit that looks for the settings of edits: a search for each direction, as they differ.

To add a lesion is another task than to take one away: on circuit boards one recipe convinced an independent judge in
91 % to sound and 68 % to a defect, another of the same search in 81 % and 88 %.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cfdiff.data.splitting import VAL
from cfdiff.edit.levels import fitting_depth, fitting_smooth, reach
from cfdiff.edit.recipe import TOWARDS
from cfdiff.files import atomic
from cfdiff.fit.plan import LEAST
from cfdiff.fit.stages import Fit
from cfdiff.progress import Progress
from cfdiff.train.result import TrainResult
from cfdiff.tune.config import as_toml
from cfdiff.tune.result import TuneResult

MOST = 32
"""Images of a direction that a search tries settings on."""
FIRST = 1 / 3
"""Share of the time of the search to positive, which goes first: one sign makes a positive, and all must go to make a
negative, which took up to six times as many network calls an image."""
MASS = 0.2
"""Of the saliency, in the first place that is drawn anew: 2 % of the pixels of circuit boards, whose defects are small,
and 6 % of road tiles with potholes of a quarter of the tile; no share of pixels suits both."""


def tune(fit: Fit, guide: TrainResult, minutes: float, progress: Progress) -> Mapping[str, TuneResult]:
    """Search the recipe of each direction on validation images by the verifier; both within so many minutes.

    `edit.toml` is where both begin; what they find stands beside it (`cfdiff.edit.recipe`).

    Returns:
        "negative" and "positive", the class started from -> what was found.
    """
    from cfdiff.tune.run import tune as search
    from cfdiff.tune.settings import TuneSettings

    began, start = time.monotonic(), beginning(fit, guide)
    with atomic(fit.folder.recipe) as scratch:
        scratch.write_text("\n".join(["# Where cfdiff fit began to search.", *as_toml(start)]) + "\n")
    found: dict[str, TuneResult] = {}
    for name, asked, share in (("negative", "positive", FIRST), ("positive", "negative", 1.0)):
        left = minutes - (time.monotonic() - began) / 60  # below 0 where one try took longer than all that was given
        settings = TuneSettings(
            **fit.data,
            **fit.machine,
            weights=str(fit.folder.path),
            split=fit.split(VAL),
            images=max(1, min(MOST, fit.fewest(fit.split(VAL)) // 2)),
            flip=fit.s.flip,
            **(start | {"from": name}),
            max_minutes=max(share * left, LEAST * minutes),
            out=fit.folder.path / TOWARDS[asked],
            seed=fit.s.seed,
            force=True,
        )
        found[name] = search(settings, progress)
    return found


def beginning(fit: Fit, guide: TrainResult) -> dict[str, Any]:
    """The settings that the searches begin with.

    A guide that is at chance at every noise level cannot steer: then they begin with the checker alone.
    """
    from cfdiff.train.settings import DiffusionSettings
    from cfdiff.tune.space import CHEAP

    depth = fitting_depth(guide.val_accuracy_by_level or {}, DiffusionSettings.model_fields["T"].default)
    # The cheap way first: what time there is must be enough for a look at more than a handful of images.
    start: dict[str, Any] = {**CHEAP, "guides": "both" if able(guide) else "clean", "redraw_mass": MASS, "early": False}
    start["views"] = fit.state.augment
    return start if depth is None else {**start, "depth": depth, "smooth": fitting_smooth(depth)}


def able(guide: TrainResult) -> bool:
    """Whether the guide was better than chance at any noise level in its last validation; where none was, it may be."""
    return reach(guide.val_accuracy_by_level or {}) != 0
