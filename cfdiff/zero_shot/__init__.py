"""cfdiff zero-shot: what an image-text model knows of images that it was not trained on."""

from cfdiff.api import make_callable

make_callable(__name__)
