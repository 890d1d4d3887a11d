"""The file of generated images: one row an image, written in parts and resumed as a translation is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cfdiff.store.parts import RunParts
from cfdiff.store.result import RunFile, open_run_file
from cfdiff.store.schema import Field, Layout

SAMPLES = Layout(
    "cfdiff-samples",
    1,
    {
        "id": Field(("N",), "string", "", "what the image is of: a seed, or a place between two ends", True),
        "image": Field(("N", "H", "W", "C"), "image", "stored value", "the generated image", True),
        "steps": Field(("N",), "int32", "1", "levels that were walked down", True),
        "seed": Field(("N",), "int64", "", "of the image's noise; on a path between seeds, of its first end", True),
        "position": Field(("N",), "float32", "1", "place between the two ends, 0 to 1, of an interpolation"),
        "target": Field(("N",), "int8", "class index", "class asked for: 0 negative, 1 positive, -1 none", True),
        "prob/judge": Field(("N", "K"), "float32", "probability", "judge, per class (axis 1; 1 is positive)"),
        "network_calls": Field(("N",), "int32", "1", "calls of the diffusion network for this image", True),
        "guide_calls": Field(("N",), "int32", "1", "steps in which guides steered this image", True),
        "status": Field(("N",), "string", "", "ok, or quarantined: not finite, black in its place", True),
    },
    "cfdiff generate",
)
QUARANTINED = "quarantined: the image was not finite, black stands in its place"


class Samples(RunFile):
    """Generated images, read lazily: `samples.image[3]` reads one (H, W, C)."""

    layout = SAMPLES

    @property
    def image(self) -> Any:
        """(N, H, W, C), the generated images as stored."""
        return self["image"]


class SampleParts(RunParts):
    """The parts of a run of cfdiff generate."""

    kind = Samples


def open_samples(path: str | Path) -> Samples:
    """Open a finished file of cfdiff generate. Raises UserError if it is missing, damaged, another, or too new."""
    return open_run_file(path, Samples)
