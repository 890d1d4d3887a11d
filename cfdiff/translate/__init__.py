"""cfdiff translate: a stream of images to the other class."""
