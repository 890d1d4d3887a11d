"""cfdiff fit: from a data set to counterfactuals of it, in one command and a given time."""

from cfdiff.api import make_callable

make_callable(__name__)
