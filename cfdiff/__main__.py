"""`python -m cfdiff` is `cfdiff`."""

from __future__ import annotations

from cfdiff.cli.app import main

if __name__ == "__main__":
    main()
