"""The figures of ``gpu.py`` as docs/benchmarks.md shows them."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

MARKS = ("<!-- figures of gpu.py -->", "<!-- end of the figures -->")
Row = dict[str, Any]


def machine(args: argparse.Namespace) -> Row:
    name = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
    about = {"device": name, "torch": torch.__version__, "sizes": args.sizes}
    return about | (
        {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if args.device == "cuda" else {}
    )


def markdown(found: dict[str, Any]) -> str:
    """All figures, as docs/benchmarks.md shows them."""
    about = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    lines = [f"Measured by `python benchmarks/gpu.py` on: {about}.", ""]
    for what, title in (("train", "training"), ("localize", "localizing")):
        rows = [row for row in found["rows"] if row["what"] == what]
        if rows:
            lines += [
                f"| {title} | precision | how | images/s | TFLOP/s | of peak |",
                "| --- | --- | --- | ---: | ---: | ---: |",
            ]
            lines += [_line(row) for row in rows]
            lines.append("")
    for row in found["rows"]:
        if row["what"] not in ("train", "localize"):
            values = ", ".join(f"{key} {_shown(value)}" for key, value in row.items() if key not in ("what", "took_s"))
            lines.append(f"* {row['what']}: {values}")
    return "\n".join(lines)


def _line(row: Row) -> str:
    how = row.get("how") or (f"batch of {row['batch']}" if "batch" in row else "-")
    if "failed" in row:
        return f"| {row['method']} | {row['precision']} | {how} | failed: {row['failed'][:80]} | - | - |"
    share = "-" if row["share"] is None else f"{row['share']:.0%}"
    return f"| {row['method']} | {row['precision']} | {how} | {row['images_s']:.1f} | {row['tflops']:.3g} | {share} |"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def put_into(document: Path, text: str) -> None:
    """Replace what stands between the marks of a document."""
    whole = document.read_text(encoding="utf-8")
    before, rest = whole.split(MARKS[0], 1)
    after = rest.split(MARKS[1], 1)[1]
    document.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def ratio(found: dict[str, Any]) -> float:
    """Geometric mean over the methods: images per second in bf16 over those in the slowest precision measured."""
    rates: dict[str, list[float]] = {}
    for row in found["rows"]:
        if row["what"] == "train" and not row["how"] and "failed" not in row:
            rates.setdefault(row["method"], []).append(row["images_s"])
    gains = [each[0] / min(each) for each in rates.values()]
    return float(np.exp(np.mean(np.log(gains)))) if gains else float("nan")
