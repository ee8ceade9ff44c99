"""The methods: one file each, one YAML of released settings each."""

from __future__ import annotations

from importlib import import_module

from wsss.errors import choose
from wsss.methods.base import Method

METHODS = {
    "cam": "cam:Cam",
    "seam": "seam:Seam",
    "occse": "occse:OcCse",
    "aeft": "aeft:Aeft",
    "eader": "eader:Eader",
    "acr": "acr:Acr",
}


def build(config: dict, n_classes: int) -> Method:
    """Make the method ``config["method"]["name"]`` for ``n_classes`` foreground classes."""
    module, name = choose(METHODS, config["method"]["name"], "method").split(":")
    return getattr(import_module(f"{__name__}.{module}"), name)(config, n_classes)


__all__ = ["METHODS", "Method", "build"]
