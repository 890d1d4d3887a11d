"""What `cfdiff models` does: make our model files of other people's checkpoints, and say what is in any of them."""
