"""What can be measured of a counterfactual, one module for a question: arrays in, numbers out.

Images are (B, H, W, C) floats in [0, 1], as `cfdiff.data.values.unit` makes them of the saved ones. Import the module
that you need (`from cfdiff.metrics.minimality import ssim`): some load torch, others do not.
"""
