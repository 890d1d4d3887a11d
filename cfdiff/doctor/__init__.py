"""cfdiff doctor: what is wrong with data, models and settings."""
