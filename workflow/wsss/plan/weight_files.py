"""Find absent packages and damaged weight files before anything is computed, without reading the networks in them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from wsss.files import INSTALLED, sha256

DIGEST = re.compile(r"-(?!\d+\.)([0-9a-f]{8,64})\.\w+$")  # in torchvision's names: how the SHA-256 begins; not a date
TEXT = bytes([*range(9, 14), *range(32, 127)])


def is_absent_package(path: str) -> bool:
    """Tell whether a setting names weights in a package that this Python lacks. The package is not imported."""
    if not path.startswith(INSTALLED):
        return False
    name = path.removeprefix(INSTALLED).replace("-", "_")
    return not name.isidentifier() or find_spec(name) is None


def damage(path: str | Path) -> str | None:
    """Say what shows that a file cannot be the weights that its name promises; None if nothing does.

    An empty file passes: in a dry run it stands for one that is still to come. The training refuses it.
    """
    with Path(path).open("rb") as stream:
        head = stream.read(64)
    if not head:
        return None
    if not head.strip(TEXT):
        return f"{path} is text, such as a web page or a pointer of Git LFS, not weights: download it again"
    named = DIGEST.search(Path(path).name)
    if named and not sha256(path).startswith(named[1]):
        cure = f"download it again, or rename it if {named[1]} means something else"
        return f"{path} is damaged or another file: its SHA-256 does not begin with {named[1]}: {cure}"
    return None
