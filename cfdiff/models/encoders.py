"""Condition encoders tau_theta(y) -> (B, L, d): what is said of an image as a sequence of tokens (Rombach et al.
2022, 3.3).

What is said is first a row of whole numbers, its code (n,), which a batch, a stored prompt and a dropped condition
have in common; a code that begins with -1 says nothing. `registry.ENCODERS` holds the kinds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from cfdiff.errors import UserError
from cfdiff.registry import ENCODERS

NOTHING = "none"
"""What is said in words where nothing is."""


class Encoder(Protocol):
    """A module that a token-reading diffusion network carries in its file.

    Attributes:
        width: d, numbers of a token.
    """

    width: int

    def codes(self, said: Sequence[str]) -> Tensor:
        """Texts -> their codes (B, n) int64, on the CPU.

        Raises:
            UserError: one of them says what this encoder does not know.
        """
        ...

    @property
    def nothing(self) -> Tensor:
        """The code (n,) of nothing said, on the CPU."""
        ...

    def __call__(self, codes: Tensor) -> Tensor:
        """Codes (B, n) -> tokens (B, L, d)."""
        ...


class AttributesConfig(BaseModel):
    """What builds an `Attributes`; stored in the model's card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, tuple[str, ...]] = Field(min_length=1, description="The known values of each attribute.")
    width: PositiveInt = Field(64, le=16384, description="Numbers of a token.")


class Attributes(nn.Module):
    """A table of attributes, such as stage, stain, defect: one token each, which is learned, also for "not said"."""

    def __init__(self, config: AttributesConfig) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        sizes = [1 + len(values) for values in config.columns.values()]  # the first of each is "not said"
        self.first = [sum(sizes[:i]) for i in range(len(sizes))]
        self.table = nn.Embedding(sum(sizes), config.width)

    @property
    def nothing(self) -> Tensor:
        """See `Encoder`."""
        return torch.zeros(len(self.config.columns), dtype=torch.int64)

    def codes(self, said: Sequence[str]) -> Tensor:
        """Of "stage=ring, stain=blue", of values alone where one attribute alone has them, or of "none".

        A known value is one, commas and all; where several begin alike, the longest is meant.
        """
        return torch.stack([self._code(text) for text in said]) if said else self.nothing[None][:0]

    def codes_of(self, columns: Mapping[str, Sequence[str]]) -> Tensor:
        """(N, n) of columns (N,) of a table; an empty value is not said, as is one that is not known."""
        found = []
        for name, values in self.config.columns.items():
            place = {value: 1 + i for i, value in enumerate(values)}
            found.append(torch.tensor([place.get(str(value), 0) for value in columns[name]], dtype=torch.int64))
        return torch.stack(found, dim=1)

    def forward(self, codes: Tensor) -> Tensor:
        """See `Encoder`: L is the number of attributes."""
        tokens: Tensor = self.table(codes + torch.tensor(self.first, device=codes.device))
        return tokens

    def _code(self, text: str) -> Tensor:
        code, names, rest = self.nothing, list(self.config.columns), text.strip()
        while rest and text.strip() != NOTHING:
            found = {name: said for name in names if (said := self._longest(name, rest)) is not None}
            where = [name for name, said in found.items() if said[0] == max(found.values())[0]]
            if len(where) != 1:
                known = "; ".join(f"{k}={'|'.join(values)}" for k, values in self.config.columns.items())
                fault = "is in several attributes" if where else "is none of them"
                raise UserError(
                    f"The model is told attributes, and {rest.partition(',')[0].strip()!r} {fault}: say {known}."
                )
            i = names.index(where[0])
            if code[i]:
                raise UserError(f"The model is told each attribute once, and {text!r} says {where[0]} twice.")
            length, code[i] = found[where[0]]
            rest = rest[length:].strip()
            if rest:  # a comma, as `_longest` looks for one
                rest = rest[1:].strip() or ","
        return code

    def _longest(self, name: str, text: str) -> tuple[int, int] | None:
        """How many letters the beginning of a text says of an attribute, up to its end or a comma, and what: a value,
        which may hold commas and "=" itself, alone or after the name. None where it says nothing of it."""
        said = [
            (match.end(), 1 + i)
            for i, value in enumerate(self.config.columns[name])
            if (match := re.match(rf"(?:{re.escape(name)}\s*=\s*)?{re.escape(value)}(?=\s*(?:,|$))", text))
        ]
        return max(said, default=None)


def build_attributes(config: Mapping[str, Any]) -> Attributes:
    """The entry of registry.ENCODERS."""
    return Attributes(AttributesConfig(**config))


def build_encoder_of(config: Mapping[str, Any]) -> Any:
    """The encoder that a card's config describes, with weights that mean nothing yet.

    Raises:
        UserError: its kind is not known here.
    """
    options = dict(config)
    name = str(options.pop("name", ""))
    if name not in ENCODERS:
        raise UserError(f"Its condition encoder is a {name!r}, which this cfdiff does not know: update it.")
    return ENCODERS[name](options)
