"""The HTML report: rows and pictures of a result, small SVG plots, and the page that holds them."""

from cfdiff.api import make_callable

make_callable(__name__)
