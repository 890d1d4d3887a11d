"""Counterfactual negative <-> positive guided diffusion."""

__version__ = "0.1.0"
