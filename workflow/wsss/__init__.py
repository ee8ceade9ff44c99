"""Weakly supervised semantic segmentation, reproduced: data, backbones, methods, refinement, measuring, lineage."""
