"""Which images a translation is of, and where they go."""

from __future__ import annotations

from typing import NamedTuple

from cfdiff.data.open import open_told
from cfdiff.data.source import Source, class_index
from cfdiff.data.splitting import TEST, own_split
from cfdiff.edit.recall import real_images
from cfdiff.errors import UserError
from cfdiff.translate.settings import TranslateSettings


class Selected(NamedTuple):
    """The images to translate, the class index asked for, and real images of that class (None: there is none)."""

    source: Source
    target: int
    real: Source | None


def select_images(s: TranslateSettings) -> Selected:
    """The images to translate, where they go, and what is there already, in the same split."""
    whole = open_told(s)
    target = None if s.to is None else class_index(s.to, whole, "--to")
    if target is not None and "from_" not in s.model_fields_set:
        start = 1 - target  # --to alone says both
    else:
        start = class_index(s.from_, whole, "--from")
    target = 1 - start if target is None else target
    if target == start:
        raise UserError(
            f"--from and --to are both {whole.classes[start]!r}: translate goes from one class to the other."
        )
    split = s.split or own_split(whole, TEST)
    source = whole.narrow(split, start, s.limit, s.seed)
    return Selected(source, target, real_images(whole.narrow(split), {target}, s.seed, len(source)))
