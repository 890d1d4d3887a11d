"""The stage of a fit that looks for the settings of edits: a search for each direction, as they differ.

To add a lesion is another task than to take one away: on circuit boards one recipe convinced an independent judge in
91 % to sound and 68 % to a defect, another of the same search in 81 % and 88 %.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from cfdiff.data.open import open_told
from cfdiff.data.splitting import VAL
from cfdiff.edit.acceptance import Acceptance
from cfdiff.edit.ladder import DRAWS_A_ROUND
from cfdiff.edit.levels import fitting_depth, fitting_smooth, reach
from cfdiff.edit.recipe import TOWARDS
from cfdiff.edit.roles import load_cast
from cfdiff.engine.symmetry import Symmetry
from cfdiff.files import atomic
from cfdiff.fit.folder import CLASSES
from cfdiff.fit.plan import LEAST
from cfdiff.fit.stages import Fit
from cfdiff.progress import Progress
from cfdiff.train.result import TrainResult
from cfdiff.tune.config import as_toml
from cfdiff.tune.result import TuneResult
from cfdiff.tune.settings import TuneSettings

MOST = 32
"""Images of a direction that a search tries settings on."""
FIRST = 1 / 3
"""Share of the time of the search to positive, which goes first: one sign makes a positive, and all must go to make a
negative, which took up to six times as many network calls an image."""
ASKED = 64
"""Real images of a class that who accepts is asked of."""
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

    began, start = time.monotonic(), beginning(fit, guide)
    with atomic(fit.folder.recipe) as scratch:
        scratch.write_text(as_begun(start))
    found: dict[str, TuneResult] = {}
    for name, asked, share in (("negative", "positive", FIRST), ("positive", "negative", 1.0)):
        settings = TuneSettings(
            **fit.data,
            **fit.machine,
            weights=str(fit.folder.path),
            split=fit.split(VAL),
            images=max(1, min(MOST, fit.count(VAL, CLASSES.index(name)) // 2)),
            flip=fit.s.flip,
            **(start | {"from": name}),
            out=fit.folder.path / TOWARDS[asked],
            seed=fit.s.seed,
            force=True,
        )
        views, sure = whom_real_images_convince(settings, fit.state.augment, CLASSES.index(asked))
        left = minutes - (time.monotonic() - began) / 60  # below 0 where one try took longer than all that was given
        limits = {"views": views, "accept": sure, "margin": min(sure, settings.margin)}
        limits["max_minutes"] = max(share * left, LEAST * minutes)
        found[name] = search(settings.model_copy(update=limits), progress)
    return found


def as_begun(start: Mapping[str, Any]) -> str:
    """What `edit.toml` says of where the searches begin."""
    return "\n".join(["# Where cfdiff fit began to search.", *as_toml(start)]) + "\n"


def goes_on(fit: Fit, guide: TrainResult) -> bool:
    """Whether the searches that were made begin as they would today, so that their trials are still of use."""
    return fit.folder.recipe.is_file() and fit.folder.recipe.read_text() == as_begun(beginning(fit, guide))


def lowered(found: Mapping[str, TuneResult]) -> list[str]:
    """A sentence of each direction whose edits are asked for less than the searches' usual margin."""
    usual = TuneSettings.model_fields["margin"].default
    return [
        f"From {name}: the verifier gives the target {one.goal.margin:.2f} or less in half of its real images, so "
        "no more is asked of an edit, and its word says little: more --minutes, or more images."
        for name, one in found.items()
        if one.goal.margin < usual
    ]


def whom_real_images_convince(s: TuneSettings, alike: Symmetry, target: int) -> tuple[Symmetry, float]:
    """--views and --accept of edits to the class `target`, by what who accepts says of real images of it.

    No more is asked of an edit than half of them fulfil: one that is asked for more climbs the whole ladder in vain.
    All views that the data is `alike` in are asked for where half of the real images convince in them by the margin.

    Returns:
        The views, and how sure to be, above 1/2 and at most the setting, to 0.01; of validation images.
    """
    real = open_told(s).narrow(None if s.split == "all" else s.split, target, ASKED, s.seed)
    cast, half = load_cast(s, s.data, real), 0.0
    for views in dict.fromkeys((alike, "none")):
        asked = Acceptance(cast, s.model_copy(update={"views": views})).asked
        batches = (np.arange(k, min(k + s.batch, len(real))) for k in range(0, len(real), s.batch))
        sure = [asked(real.read(rows), real.ids[rows].tolist(), target)[1] for rows in batches]
        half = math.floor(100 * np.median(np.concatenate(sure))) / 100
        if half >= s.margin:
            break
    return views, min(s.accept, max(0.51, half))


def beginning(fit: Fit, guide: TrainResult) -> dict[str, Any]:
    """The settings that the searches begin with.

    A guide that is at chance at every noise level cannot steer: then they begin with the checker alone.
    """
    from cfdiff.train.settings import DiffusionSettings
    from cfdiff.tune.space import AFTER, CHEAP

    depth = fitting_depth(guide.val_accuracy_by_level or {}, DiffusionSettings.model_fields["T"].default)
    # The cheap way first: what time there is must be enough for a look at more than a handful of images.
    start: dict[str, Any] = {**CHEAP, "redraw_mass": MASS, "early": False}
    if fit.state.space == "latent":
        # Both ways for every image: one in ten anchored edits of cells of 128 px had a black hole beside the parasite,
        # which the verifiers took for part of it, and the smaller of both ways had none.
        start["edit"] = "auto"
    else:
        # What the first way does not get accepted is drawn anew: on hard data no setting of the first alone is enough.
        start |= {"edit": AFTER, "redraw_find": "guides+denoiser"}
    start["guides"] = "both" if able(guide) else "clean"
    start["redraws"] = 2 * DRAWS_A_ROUND
    return start if depth is None else {**start, "depth": depth, "smooth": fitting_smooth(depth)}


def able(guide: TrainResult) -> bool:
    """Whether the guide was better than chance at any noise level in its last validation; where none was, it may be."""
    return reach(guide.val_accuracy_by_level or {}) != 0
