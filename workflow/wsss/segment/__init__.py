"""The DeepLab family: trained on pseudo masks, or on ground truth for the upper bound.

presets (settings per paper) -> samples, task (losses), models -> segment_stage -> predict_stage -> submission
"""

from __future__ import annotations

import importlib

_STAGES = {"segment_stage": "stage", "predict_stage": "predict"}


def __getattr__(name: str):
    """Stages load torch when they are asked for, so that the plan can read the presets without it."""
    if name not in _STAGES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_STAGES[name]}"), name)
