"""The version: its own module, so that what stores it imports nothing else."""

__version__ = "0.1.0"
