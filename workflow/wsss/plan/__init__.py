"""From configuration and paper files to runs, stage configs, paths and cells. Imports neither torch nor Snakemake.

``Plan`` is imported when it is first asked for: the record of a job needs ``plan.code`` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss.plan.plan import Plan

__all__ = ["Plan"]


def __getattr__(name: str) -> Any:
    if name == "Plan":
        from wsss.plan.plan import Plan

        return Plan
    raise AttributeError(name)
