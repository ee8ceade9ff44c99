"""Check whether the splits of a data set can be learnt from, and measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wsss.data.index import Record
from wsss.errors import some

ROLES = {"train": "train", "measured": "train", "val": "val"}  # role -> split, unless the configuration says otherwise
LEARNT = ("train", "measured")  # roles whose images networks see
COPIES = 0.01  # the share of copies in val above which a data set is refused; published ones have a few


def shared(records: Sequence[Record], roles: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Look for images of val from which networks learn as well: those of the roles ``LEARNT``.

    Args:
        records: all images.
        roles: role -> split.

    Returns:
        Findings: an image of val is also listed to learn from, or many images of val are copies, byte for byte, of
        images to learn from. And remarks: a few images of val are such copies.
    """
    learnt = {roles[role] for role in LEARNT if role in roles}
    val = [record for record in records if roles.get("val") in record.split]
    both = [record.id for record in val if learnt & set(record.split)]
    seen = {record.sha256: record.id for record in records if learnt & set(record.split)}
    pairs = [f"'{r.id}' is '{seen[r.sha256]}'" for r in val if r.sha256 in seen and r.id not in both]
    findings, remarks = [], []
    if both:
        findings.append(
            f"{_share(both, val)} are images to learn from as well ({some(both)}); take them out of one of the lists"
        )
    if pairs:
        line = f"{_share(pairs, val)} have the same bytes as an image to learn from ({some(pairs)})"
        if len(pairs) > COPIES * len(val):
            findings.append(f"{line}; take them out of one of the lists")
        else:
            remarks.append(line)
    return findings, remarks


def unlearnable(records: Sequence[Record], classes: Sequence[str], roles: Mapping[str, str]) -> list[str]:
    """List the classes that no network can learn: all images to learn from have them, or none has."""
    images = [set(record.labels) for record in records if roles.get("train") in record.split]
    everywhere = [name for name in classes if images and all(name in labels for labels in images)]
    nowhere = [name for name in classes if images and not any(name in labels for labels in images)]
    remarks = []
    if everywhere:
        remarks.append(
            f"nothing can be learnt of {some(everywhere)}: every image of '{roles['train']}' has that label; "
            "add images without it, with an empty cell in the column labels or 0 in that of the class"
        )
    if nowhere:
        remarks.append(f"nothing can be learnt of {some(nowhere)}: no image of '{roles['train']}' has that label")
    return remarks


def _share(some: Sequence[str], val: Sequence[Record]) -> str:
    return f"{len(some)} of {len(val)} images to measure on"
