"""The result file of a run: written in crash-safe parts, joined into one HDF5 file, read back lazily."""

from __future__ import annotations

from cfdiff.store.output import check_output
from cfdiff.store.parts import RunParts
from cfdiff.store.result import Result, open_result
from cfdiff.store.schema import FORMAT, FORMAT_VERSION, SCHEMA, Field

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "SCHEMA",
    "Field",
    "Result",
    "RunParts",
    "check_output",
    "open_result",
]
