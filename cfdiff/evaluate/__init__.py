"""cfdiff evaluate: every figure of a finished run."""
