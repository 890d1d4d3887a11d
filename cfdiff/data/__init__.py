"""Images in: one interface over bundled sets, folders, CSV manifests, .npz and .h5. Knows no diffusion."""

from cfdiff.data.open import open_source
from cfdiff.data.source import NEGATIVE, OTHER, POSITIVE, Source, require_both_classes

__all__ = ["NEGATIVE", "OTHER", "POSITIVE", "Source", "open_source", "require_both_classes"]
