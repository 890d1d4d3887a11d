"""cfdiff bag: bags of a controlled mixture."""

from cfdiff.api import make_callable

make_callable(__name__)
