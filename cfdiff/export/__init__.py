"""Results back in the formats of the clinic: DICOM secondary captures, NIfTI."""

from cfdiff.api import make_callable

make_callable(__name__)
