"""cfdiff translate: a stream of images to the other class."""

from cfdiff.api import make_callable

make_callable(__name__)
