"""cfdiff bag: bags of a controlled mixture."""
