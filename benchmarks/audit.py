"""The audit of many images: seconds per image of a small data set over those of one ten times as large.

    python benchmarks/audit.py                       # 10,000 images and 100,000
    python benchmarks/audit.py --images 250000

Each image is a file of a few bytes, so that this is the cost of the audit itself, not of hashing. ``cold`` reads every
file; ``cached`` knows them from an audit before. The last line is ``ratio <small / large>`` of the cold audit: 1 where
the time is linear in the number of images, less where it grows faster.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import tempfile
import time
from pathlib import Path

from wsss.provenance.audit import audit
from wsss.provenance.record import recorded

HEAD = "id,image,mask,split,labels,width,height,sha256,mask_sha256"


def data_set(folder: Path, images: int) -> Path:
    """Write a data set of small files with its index and record, and return the index."""
    data = folder / "results/toy/data"
    with recorded("index", [], [str(data)], None, "cpu"):
        (data / "VOC").mkdir(parents=True)
        rows = [HEAD]
        for at in range(images):
            name, text = f"{at:06}.jpg", str(at).encode()
            (data / "VOC" / name).write_bytes(text)
            rows.append(f"{at},{name},,train,cat,1,1,{hashlib.sha256(text).hexdigest()},")
        (data / "index.csv").write_text("\n".join([*rows, ""]), encoding="utf-8")
        (data / "dataset.json").write_text('{"root": "VOC"}', encoding="utf-8")
    return data / "index.csv"


def seconds(index: Path, images: int, cold: bool) -> float:
    """Audit a data set and return the time it took; every image must be as the index says."""
    start = time.perf_counter()
    found = audit(index, cold=cold, code=False)
    took = time.perf_counter() - start
    if found.findings or found.images != images:
        raise SystemExit(f"{found.images} of {images} images, {len(found.findings)} findings")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000, help="of the large data set (default: 100000)")
    args = parser.parse_args()
    each: list[float] = []
    for images in (max(1, args.images // 10), args.images):
        with tempfile.TemporaryDirectory() as name:
            os.environ["XDG_CACHE_HOME"] = str(Path(name, "cache"))
            index = data_set(Path(name), images)
            time.sleep(2.5)  # younger files are not kept in the cache
            seconds(index, images, cold=False)  # fills it
            cold, cached = (seconds(index, images, how) for how in (True, False))
            each.append(cold / images)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{images} images: cold {cold:.2f} s, cached {cached:.2f} s, {memory} MiB at most")
    print(f"ratio {each[0] / each[1]:.2f}")


if __name__ == "__main__":
    main()
