"""The noise schedule: beta_t, alpha_t and alpha_bar_l in float64.

Levels run from 0 to T. Level 0 is the clean image (alpha_bar[0] = 1), level l has seen l noising steps, and a
network that was trained on T steps gets the timestep t = l - 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cfdiff.errors import UserError

MOST_STEPS = 1_000_000


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Variance schedule of a diffusion process with T steps (Ho et al. 2020, section 2).

    Attributes:
        betas: (T,) float64, beta of the step from level l - 1 to level l at index l - 1; each in (0, 1).
        name: "linear", "cosine" or "betas".
        parameters: what the named formula takes besides T, such as `s` of "cosine".
        alpha_bar: (T + 1,) float64, alpha_bar[0] = 1, strictly decreasing.
    """

    betas: Tensor
    name: str = "betas"
    parameters: Mapping[str, float] = field(default_factory=dict)
    alpha_bar: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        betas = torch.as_tensor(self.betas, dtype=torch.float64)
        if betas.ndim != 1 or len(betas) == 0 or not bool(((betas > 0) & (betas < 1)).all()):
            raise UserError("A noise schedule needs a one-dimensional list of betas, each between 0 and 1.")
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "alpha_bar", torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)]))

    @property
    def T(self) -> int:
        """Number of noising steps; the noisiest level."""
        return len(self.betas)

    @classmethod
    def linear(cls, T: int = 1000, start: float = 1e-4, end: float = 0.02) -> NoiseSchedule:
        """Linear betas (Ho et al. 2020); `start` and `end` hold for T = 1000 and are scaled by 1000 / T."""
        scale = 1000 / T
        betas = torch.linspace(start * scale, end * scale, T, dtype=torch.float64)
        return cls(betas.clamp(max=0.999), "linear", {"start": start, "end": end})

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008) -> NoiseSchedule:
        """ab(u) = cos^2((u + s) / (1 + s) pi / 2), betas <= 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
        u = torch.arange(T + 1, dtype=torch.float64) / T
        f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
        return cls((1 - f[1:] / f[:-1]).clamp(max=0.999), "cosine", {"s": s})

    @classmethod
    def from_betas(cls, betas: Sequence[float] | Tensor) -> NoiseSchedule:
        """A schedule from somebody else's betas, (T,)."""
        return cls(torch.as_tensor(betas, dtype=torch.float64), "betas")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> NoiseSchedule:
        """The inverse of `config`: the name, T and the parameters of its formula, or the betas.

        A parameter that is not there has its default: files before 0.2 held the name and T alone. It is computed on the
        CPU, also within a network that is built without its numbers (`torch.device("meta")`).
        """
        name, rest = config.get("name"), {key: value for key, value in config.items() if key != "name"}
        build: Any = {"linear": cls.linear, "cosine": cls.cosine, "betas": cls.from_betas}.get(str(name))
        if build is None:
            raise UserError(f"Unknown noise schedule {name!r}; use linear, cosine or betas.")
        try:
            if build != cls.from_betas:
                if not 1 <= int(rest["T"]) <= MOST_STEPS:
                    raise UserError(f"A noise schedule has 1 to {MOST_STEPS:,} steps, not T = {rest['T']!r}.")
                rest = {"T": int(rest.pop("T")), **{key: float(value) for key, value in rest.items()}}
            with torch.device("cpu"):
                found: NoiseSchedule = build(**rest)
            return found
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise UserError(f"The noise schedule {config} is not complete: it needs T, or betas.") from error

    @property
    def config(self) -> dict[str, Any]:
        """What a checkpoint stores to build the same schedule again."""
        if self.name == "betas":
            return {"name": "betas", "betas": self.betas.tolist()}
        return {"name": self.name, "T": self.T, **self.parameters}

    def log_snr(self, level: int | Tensor) -> Tensor:
        """log(alpha_bar / (1 - alpha_bar)) at `level`, float64; +inf at level 0."""
        ab = self.alpha_bar[level]
        return torch.log(ab) - torch.log1p(-ab)

    def at(self, level: int | Tensor, like: Tensor) -> Tensor:
        """alpha_bar at `level` (an int, or (B,) int64), float32, shaped to broadcast over `like` (B, ...)."""
        return pick(self.alpha_bar, level, like)

    def signal_noise(self, level: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(sqrt(ab_l), sqrt(1 - ab_l)), shaped as in `at`.

        Both roots are taken in float64: 1 - ab_1 is 1e-4, and in float32 it would lose three digits.
        """
        return pick(self.alpha_bar.sqrt(), level, like), pick((1 - self.alpha_bar).sqrt(), level, like)

    def level_of(self, depth: float) -> int:
        """The level at `depth`, a fraction of T in (0, 1]."""
        if not 0 < depth <= 1:
            raise UserError(f"depth must lie above 0 and at most 1, not {depth}.")
        return max(1, round(depth * self.T))

    def same_as(self, other: NoiseSchedule) -> bool:
        """Whether both have the same betas to float rounding."""
        return self.T == other.T and bool(torch.allclose(self.betas, other.betas, rtol=1e-9, atol=0))


def pick(table: Tensor, level: int | Tensor, like: Tensor) -> Tensor:
    """table[level] of a (T + 1,) float64 table, shaped to broadcast over `like` (B, ...).

    float32, or float64 where `like` is: half precision is no place for the arithmetic of alpha_bar.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    if isinstance(level, int):
        return table[level].to(dtype)  # a scalar may stay on the CPU: a copy would make the device wait
    values = table.to(dtype).to(level.device)[level].to(like.device)  # the small table travels: no waiting for levels
    return values if values.ndim == 0 else values.view(-1, *[1] * (like.ndim - 1))
