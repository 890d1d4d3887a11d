"""cfdiff evaluate: every figure of a finished run."""

from cfdiff.api import make_callable

make_callable(__name__)
