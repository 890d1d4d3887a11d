"""cfdiff generate: images from noise, of a class or of any; what lies between two; quality against calls."""

from cfdiff.api import make_callable

make_callable(__name__)
