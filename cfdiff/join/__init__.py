"""cfdiff join: one result of the shards of a job array."""

from cfdiff.api import make_callable

make_callable(__name__)
