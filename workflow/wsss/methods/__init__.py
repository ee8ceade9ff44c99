"""The methods: one file each, and one YAML file of its released settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsss.methods.base import Method
from wsss.registry import Registry, load

if TYPE_CHECKING:
    from wsss.settings.sections import Settings

METHODS: Registry[str] = {
    "cam": "wsss.methods.cam:Cam",
    "seam": "wsss.methods.seam:Seam",
    "occse": "wsss.methods.occse:OcCse",
    "aeft": "wsss.methods.aeft:Aeft",
    "eader": "wsss.methods.eader:Eader",
    "acr": "wsss.methods.acr:Acr",
    "recam": "wsss.methods.recam:ReCam",
}


def build(config: Settings, n_classes: int) -> Method:
    """Make the method ``config["method"]["name"]`` for ``n_classes`` foreground classes."""
    method: Method = load(METHODS, config["method"]["name"], "method")(config, n_classes)
    return method


__all__ = ["METHODS", "Method", "build"]
