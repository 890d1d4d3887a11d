"""The trainings: diffusion models and classifiers."""
