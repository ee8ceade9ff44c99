"""Stand in for ``wsss.cli`` when the whole workflow is run without computing: write the files that a command makes.

Of these files only the names are real, and the number of images in an index. ``benchmarks/whole_run.py`` puts it into a
copy of the sources.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

FOLDERS = {  # what commands write into the folder that --out names
    "table": ("table.csv", "table.md", "table.tex", "table.html"),
    "figure": ("figure.pdf", "figure.png", "figure.html"),
    "judge": ("table.csv", "table.md", "table.tex", "table.html", "figure.pdf", "figure.png", "figure.html"),
    **dict.fromkeys(("train", "affinity", "irn_train", "deeplab"), ("model.pt", "losses.csv")),
}
NONE = ("download", "augment")  # Snakemake makes their marker itself
COUNTS = {  # splits of an index, and how many images are in them
    "voc": [("train;train_aug", 1464), ("train_aug", 9118), ("val", 1449)],
    "coco": [("train", 82081), ("val", 40137)],
    "shapes": [("train", 12), ("val", 6)],
}
CLASSES = {"voc": 20, "coco": 80, "shapes": 3}


def main(command: str, *words: str) -> None:
    given = dict(itertools.pairwise(words))
    out = Path(given["--out"])
    if command == "index":
        _index(out, Path(given["--config"]).read_text(encoding="utf-8"))
    elif command in FOLDERS:
        for name in FOLDERS[command]:
            (out / name).write_text(command, encoding="utf-8")
    elif command not in NONE:
        out.write_text("{}" if out.suffix == ".json" else command, encoding="utf-8")
        out.with_suffix(".record.json").write_text(json.dumps({"command": "stub"}), encoding="utf-8")
        return
    if command not in NONE:
        (out / "record.json").write_text(json.dumps({"command": "stub"}), encoding="utf-8")


def _index(out: Path, config: str) -> None:
    builder = next(line.split()[1] for line in config.splitlines() if line.startswith("builder:"))
    lines, known = ["id,split"], 0
    for split, images in COUNTS[builder]:
        lines += [f"{i},{split}" for i in range(known, known + images)]
        known += images
    (out / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = {"name": builder, "classes": [str(i) for i in range(CLASSES[builder])], "root": "."}
    (out / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


main(*sys.argv[1:])
