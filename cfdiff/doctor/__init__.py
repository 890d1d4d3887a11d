"""cfdiff doctor: what is wrong with data, models and settings."""

from cfdiff.api import make_callable

make_callable(__name__)
