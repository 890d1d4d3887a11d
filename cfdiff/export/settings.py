"""The settings of `cfdiff export`. No torch here, so that `--help` stays quick."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cfdiff.settings import DATA, OUTPUT, Settings


class ExportSettings(Settings):
    """cfdiff export."""

    run: Path = Field(description="Result of cfdiff translate.")
    data: Path = Field(
        json_schema_extra=DATA,
        description="The run's data: the folder, .csv or file whose DICOM or NIfTI it was made of.",
    )
    names: bool = Field(
        False,
        json_schema_extra=DATA,
        description="Copy name, birth date and sex of the patient into DICOM files; else only the PatientID.",
    )
    out: Path | None = Field(
        None, json_schema_extra=OUTPUT, description="Folder to write into [default: RUN-files beside the run]."
    )
    force: bool = Field(False, json_schema_extra=OUTPUT, description="Write into a folder that holds something.")
