"""Comparison of results with ground truth."""
