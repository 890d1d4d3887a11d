"""cfdiff supervise: counterfactual pairs as training data for an ordinary classifier."""

from cfdiff.api import make_callable

make_callable(__name__)
