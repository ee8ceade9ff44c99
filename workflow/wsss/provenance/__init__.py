"""Where a result comes from: one hash-chained record per job, and the audit that re-hashes the chain."""

from wsss.provenance.audit import audit
from wsss.provenance.record import recorded

__all__ = ["audit", "recorded"]
