"""Files on the report page: pictures as data, links to the rest."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

from PIL import Image

from wsss.report.outline import Links


def links(paths: list[Path], out: Path) -> Links:
    """Link from the page ``out`` to the files that are there: short name -> relative address."""
    there = [path for path in paths if path.is_file()]
    names = {path.name for path in there}
    ambiguous = len(names) < len(there)
    found = {}
    for path in there:
        name = path.name
        if ambiguous:
            name = f"{path.parent.name}/{name}"
        found[name] = os.path.relpath(path, out.parent)
    return found


def inline(data: bytes, kind: str) -> str:
    """Write a picture as an address that holds it. ``kind`` is its type, such as ``webp``."""
    text = base64.b64encode(data).decode()
    return f"data:image/{kind};base64,{text}"


def webp(image: Image.Image) -> str:
    """Write a picture as an address that holds it as WebP, which is smaller than PNG."""
    buffer = io.BytesIO()
    rgb = image.convert("RGB")
    rgb.save(buffer, format="WEBP", quality=90)
    return inline(buffer.getvalue(), "webp")
