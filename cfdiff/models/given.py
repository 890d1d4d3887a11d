"""A classifier that a caller of the Python API holds: `cfdiff.translate(..., checker=cfdiff.as_classifier(net, ...))`.

No torch here: settings take one where they take a file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cfdiff.errors import UserError


class Given:
    """A network and what was told of it; `checker`, `verifier` and `judge` take one in the place of a file."""

    def __init__(self, net: Callable[..., Any], told: dict[str, Any], name: str, version: str | None) -> None:
        self.net, self.told, self.name, self.version = net, told, name, version

    def __repr__(self) -> str:
        return f"<classifier {self.name!r}>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """How pydantic takes one as a value: as it is."""
        return {"type": "is-instance", "cls": cls, "serialization": {"type": "to-string"}}


ModelFile = Path | Given
"""Where a setting finds a classifier."""


def as_classifier(
    net: Callable[..., Any], *, name: str | None = None, version: str | None = None, **told: Any
) -> Given:
    """A classifier of your own as checker, verifier or judge.

    Args:
        net: an nn.Module, or a function, (B, C, H, W) float32 -> (B, K). A module is copied, and used in eval mode.
        name: for messages [default: that of its class or function].
        version: of a function, which has no weights to hash: a result and a resumed run know it by this word.
        told: as in a description file (docs/any-classifier.md): classes="248,250", output="logits",
            normalisation="imagenet", channels=3, size=224, and so on.

    Raises:
        UserError: something is missing or impossible.
    """
    from cfdiff.models.description import complete

    known = name or str(getattr(net, "__name__", type(net).__name__))
    if not callable(net):
        raise UserError(f"{known!r} cannot be called: give a module or function of images (B, C, H, W).")
    if not hasattr(net, "state_dict") and version is None:
        raise UserError(
            f"The function {known!r} has no weights that could be hashed: say version='...', by which a result will "
            "know it, and say another whenever it changes."
        )
    complete(known, f"as_classifier({known}, ...)", told)
    return Given(net, dict(told), known, version)


def check_given(value: Any) -> Any:
    """A setting's value before it is checked; UserError for a network or function that nothing is told of."""
    if callable(value) and not isinstance(value, Given | type):
        name = getattr(value, "__name__", type(value).__name__)
        raise UserError(
            f"Of the classifier {name!r} nothing is told: give cfdiff.as_classifier({name}, classes='0,1', "
            "output='logits', normalisation='imagenet', channels=3, size=224), with what is true of it."
        )
    return value
