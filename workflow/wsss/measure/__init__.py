"""Comparison with ground truth: the only reader of the masks of training images."""

from wsss.measure.stage import measure_stage

__all__ = ["measure_stage"]
