"""Digests that stand outside the results, and signatures of them.

The content digest is the identity of a record: whoever makes the same bytes in the same way gets the same one. The root
digest covers every byte of every record below a target, so also machines, times and commits. Either is 64 hex digits.

A signature is made and checked by ``ssh-keygen -Y``, over a statement of a few lines, and lies beside the record.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wsss.errors import WsssError
from wsss.files import digest
from wsss.provenance.findings import Finding

if TYPE_CHECKING:
    from wsss.provenance.audit import Audit

NAMESPACE = "wsss"
SUFFIX = ".sig"


def root_digest(digests: Mapping[str, str]) -> str:
    """Return the digest of the names and digests of all records of a chain."""
    return digest("".join(f"{key} {digests[key]}\n" for key in sorted(digests)))


def statement(found: Audit) -> str:
    """Write the text that is signed."""
    return f"wsss results\ntarget {found.start}\ncontent {found.content}\nroot {found.root}\n"


def signature_path(found: Audit) -> Path:
    """Return the signature beside the record of a target."""
    path = found.chain.place.path(found.start)
    return path.with_name(path.name + SUFFIX)


def sign(found: Audit, key: str | Path) -> Path:
    """Sign an audited target with a private key of SSH and return the signature.

    Raises:
        WsssError: the audit has findings, other than of today's code and settings, or ssh-keygen refuses.
    """
    if wrong := [finding for finding in found.findings if not finding.today]:
        number = f"has findings ({len(wrong)}), which `wsss audit` shows"
        raise WsssError(f"{found.target}: {number}; only what matches its records is signed")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "statement"
        text.write_text(statement(found), encoding="utf-8")
        _keygen(["sign", "-f", str(key), "-n", NAMESPACE, str(text)])
        target = signature_path(found)
        target.write_bytes(Path(folder, "statement.sig").read_bytes())
    return target


def verify(found: Audit, signers: str | Path) -> tuple[str | None, list[Finding]]:
    """Check the signature of a target against a file of allowed signers.

    Returns:
        The signer, or None, and the findings.
    """
    path = signature_path(found)
    if not path.is_file():
        return None, [Finding("missing", path.name, f"nobody has signed {found.start}")]
    try:
        who = _keygen(["find-principals", "-s", str(path), "-f", str(signers)]).strip().splitlines()[0]
        options = ["-f", str(signers), "-I", who, "-n", NAMESPACE, "-s", str(path)]
        _keygen(["verify", *options], statement(found))
    except (WsssError, IndexError) as error:
        return None, [Finding("modified", found.start, f"its signature does not hold: {error or 'no such signer'}")]
    return who, []


def _keygen(arguments: list[str], text: str = "") -> str:
    try:
        result = subprocess.run(
            ["ssh-keygen", "-Y", *arguments], input=text, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise WsssError(f"ssh-keygen cannot be run ({error}); install OpenSSH") from None
    if result.returncode:
        raise WsssError(f"ssh-keygen: {' '.join((result.stderr or result.stdout).split())[:200]}")
    return result.stdout
