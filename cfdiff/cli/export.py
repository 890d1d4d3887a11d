"""cfdiff export."""

from __future__ import annotations

from cfdiff.cli.options import command
from cfdiff.export.settings import ExportSettings

DOC = """Write a run back as the files it was made of: DICOM secondary captures, or NIfTI of the difference map.

Captures lie in the study of their original, say that they are generated, and name no person unless --names is given."""


@command(ExportSettings, DOC, names={"out": "--out -o"}, arguments=("run",))
def export(settings: ExportSettings) -> None:
    from cfdiff.export.run import export as run

    done = run(settings)
    others = f"; {done.passed_over:,} images are of other files" if done.passed_over else ""
    print(f"{done.folder}: {len(done.files):,} files{others}")
