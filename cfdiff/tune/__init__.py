"""cfdiff tune: the settings that flip enough with the smallest change."""

from cfdiff.api import make_callable

make_callable(__name__)
