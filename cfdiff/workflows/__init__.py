"""Data in, files out: training and translation. Import what you need from the modules."""
