"""From configuration and paper files to runs, stage configs, paths and cells. Imports neither torch nor Snakemake."""

from wsss.plan.plan import Plan

__all__ = ["Plan"]
