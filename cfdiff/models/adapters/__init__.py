"""Other people's diffusion models as ours: how each format is read."""
