"""cfdiff join of a translation."""

from __future__ import annotations

from cfdiff.join.settings import JoinSettings
from cfdiff.progress import Progress
from cfdiff.store.join import join_shards
from cfdiff.translate.summary import TranslateSummary, summarise


def join_translation(s: JoinSettings, progress: Progress) -> TranslateSummary:
    """The result of the shards of a translation; no image is read and no model is opened."""
    join_shards(s.run, s.force, progress, s.volume, s.remote)
    return summarise(s.run)
