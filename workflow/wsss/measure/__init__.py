"""Comparison with ground truth: the only reader of the masks of training images."""
