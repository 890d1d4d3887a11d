"""What a fit found: how good its edits are on held-out groups, and what to know before one uses them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cfdiff.translate.summary import TranslateSummary


@dataclass(frozen=True, repr=False)
class FitResult:
    """A finished fit; `print(result)` shows its card.

    Attributes:
        out: the folder: models, splits.csv, recipes, results, pictures, pages, card.
        data, images, groups: what was fitted; groups None where the data does not say any.
        minutes: that it took, over all its parts.
        accuracy: role -> validation accuracy of its classifier; of the guide, on clean images.
        recipe: "negative" and "positive", the class started from -> the settings that were found for its edits.
        reached: the same -> whether they reach the wanted share of accepted edits on the tuning images.
        directions: the same -> the summary of the edits of test images.
        moved: the same -> how far the edits went to the target class by KID, None where that was not measured.
        reconstruction: figures of the autoencoder, where diffusion runs in its latents.
        notes: sentences about data and splits; warnings: what doctor, tune and this card warn of.
    """

    out: Path
    data: str
    images: int
    groups: int | None
    minutes: float
    accuracy: dict[str, float | None]
    recipe: dict[str, dict[str, Any]]
    reached: dict[str, bool]
    directions: dict[str, TranslateSummary]
    moved: dict[str, float | None]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    reconstruction: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """card.json."""
        told = {name: summary.as_json() for name, summary in self.directions.items()}
        return {**asdict(self), "out": self.out.name, "directions": told}

    def lines(self) -> list[str]:
        """The card as one reads it, in markdown."""
        groups = "" if self.groups is None else f" of {self.groups} groups"
        found = [
            f"# {self.data}",
            "",
            f"{self.images:,} images{groups}, fitted in {self.minutes:.0f} minutes. Everything below is of test images "
            "that no model learned from, of all samples, as they are saved.",
            "",
            "| | n | seen as the target by the judge | its recall on real ones | by the verifier | by the checker "
            "| mean \\|difference\\| | calls | moved to the target (KID) |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, s in self.directions.items():
            recall = s.recall.get("judge")
            shares = [s.flipped_judge, None if recall is None else recall.share, s.flipped_verifier, s.flipped_checker]
            interval = "" if s.flipped_judge_95 is None else " ({:.0%}-{:.0%})".format(*s.flipped_judge_95)
            cells = ["-" if share is None else f"{share:.1%}" for share in shares]
            cells[0] += interval
            moved = self.moved.get(name)
            cells += [
                f"{s.mean_abs_difference:.4f}",
                f"{s.network_calls:.0f}",
                "-" if moved is None else f"{moved:.2f}",
            ]
            found.append(" | ".join([f"| {s.direction.replace('->', 'to')}", str(s.images), *cells]) + " |")
        known = ", ".join(f"{role} {value:.1%}" for role, value in self.accuracy.items() if value is not None)
        found += ["", f"Accuracy on validation images: {known}."]
        for name, recipe in self.recipe.items():
            values = ", ".join(f"{setting} = {value}" for setting, value in recipe.items())
            short = "" if self.reached[name] else ", the nearest to the goal, which they do not reach"
            found.append(f"Settings of edits from {name}: {values}{short}.")
        if self.reconstruction is not None and "psnr" in self.reconstruction:
            psnr, ssim = (self.reconstruction[name] for name in ("psnr", "ssim"))
            found.append(
                f"Diffusion runs in latents; the autoencoder draws validation images at {psnr:.1f} dB, SSIM {ssim:.3f}."
            )
        for title, sentences in (("What to know", self.warnings), ("About the data", self.notes)):
            found += ["", f"## {title}", "", *(f"- {sentence}" for sentence in sentences)] if sentences else []
        return found

    def __repr__(self) -> str:
        return "\n".join(self.lines())
