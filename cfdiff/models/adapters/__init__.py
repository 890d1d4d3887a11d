"""Models that others made, one file a format; each has its line in cfdiff.registry."""
