"""What classifiers know of groups that they never saw, after the same time with larger and with smaller batches.

    python benchmarks/batches.py ../shared/data --threads 1 --minutes 2.5 --json benchmarks/results/batches.json

A network as the judge of `cfdiff fit`, in the same light, learns the same groups of each set of `anyone.py` as in
`light.py` and is asked of the same others.
"""

from __future__ import annotations

from light import study

from cfdiff.fit.classifiers import LIGHT

if __name__ == "__main__":
    study(__doc__, "batches", {str(batch): {**LIGHT, "batch_size": batch} for batch in (64, 32, 16)}, "batch")
