"""Networks of the DeepLab family, trained on pseudo masks, or on ground truth for the upper bound.

presets (settings per paper) -> samples, task (losses), models -> deeplab -> predict -> submission
"""
