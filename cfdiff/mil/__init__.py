"""Bag models: trained on mixtures that are made under control, measured on real bags, and asked what they saw."""
