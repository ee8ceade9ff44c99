"""Numbers calculated again: cells of tables and claims from metrics, metrics from pixel counts.

Both take milliseconds, so every audit does both. A forger who edits a number and writes new digests all the way up is
found here. To count the pixels of masks again takes minutes: ``rerun`` does it when asked to.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wsss.errors import WsssError
from wsss.provenance import code as code_state
from wsss.provenance.chain import Chain, Link
from wsss.provenance.content import Content, key_in
from wsss.provenance.findings import Finding, clean
from wsss.provenance.hashes import Seen

CLOSE = 1e-12  # of a metric: what another processor's order of addition can change
LARGEST = 2**28  # bytes of a file of numbers
COUNTS = ("tp", "predicted", "true")


@dataclass
class Recomputed:
    """The outcome of calculating numbers again.

    Args:
        cells: number of table cells.
        points: number of operating points in metrics files.
        findings: numbers that do not follow.
        left_out: the reason why something could not be calculated here.
    """

    cells: int = 0
    points: int = 0
    findings: list[Finding] = field(default_factory=list)
    left_out: str | None = None


def recompute(chain: Chain, wrong: set[str]) -> Recomputed:
    """Calculate the numbers of all tables and metrics files of a chain again.

    Args:
        chain: the records.
        wrong: files that are known not to be what their record says; what they hold is not looked at.
    """
    found = Recomputed()
    for link in chain.links.values():
        again = {"table": _of_table, "judge": _of_claims, "measure": _of_metrics}.get(link.command)
        if again is None or _read(link) & wrong:
            continue
        try:
            texts = list(again(chain, link, found))
        except ImportError as error:
            found.left_out = f"{link.first}: was not calculated again: {clean(error.name)} is not installed"
            continue
        except (WsssError, KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
            reason = clean(error).partition("\n")[0] or type(error).__name__
            texts = [(link.first, f"cannot be calculated again: {type(error).__name__}, {reason}")]
        for file, text in texts:
            rests = chain.resting_on([link.key])
            found.findings.append(Finding("reported value", file, text, rests, records=(link.key,)))
    return found


def _read(link: Link) -> set[str]:
    """List the files that a recalculation reads: for metrics not the scores and masks, for claims not the figure."""
    files = {*link.content["outputs"], *({} if link.command == "measure" else link.content["inputs"])}
    return {key for key in files if not key.rpartition("/")[2].startswith("figure.")}


def read_cells(chain: Chain, link: Link) -> list[dict[str, str]]:
    """Return the rows of a table.csv, of claims as well; none where it cannot be read."""
    key = next((key for key in link.content["outputs"] if key.endswith("/table.csv")), None)
    data = chain.hasher.text(chain.place.path(key), LARGEST) if key else Seen()
    if isinstance(data, Seen):
        return []
    try:
        return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))
    except (csv.Error, UnicodeDecodeError):
        return []


# ---- tables


def _of_table(chain: Chain, link: Link, found: Recomputed) -> Iterator[tuple[str, str]]:
    """Yield (file, what is wrong) of every cell of a table that does not follow from the metrics it names."""
    from wsss.report.cells import read_cell

    drawing, table = link.content["config"], next(key for key in link.content["outputs"] if key.endswith("table.csv"))
    rows = read_cells(chain, link)
    found_cells: list[Any] = []
    edited = False
    cells = []
    for row in drawing["rows"]:
        cells += [(row, column, spec) for column, spec in zip(drawing["columns"], row["cells"], strict=True)]
    if len(rows) != len(cells):
        yield table, f"has {len(rows)} cells, and its settings ask for {len(cells)}"
        return
    for printed, (row, column, spec) in zip(rows, cells, strict=True):
        place = f"cell {row['label']}, {column['label']}"
        files = [_metrics(chain, link, text) for text in spec.get("metrics", [])]
        if unlisted := next((text for key, text in files if key is None), None):
            yield table, f"{place}: {unlisted} is not among the inputs of its record"
            continue
        paths = [str(chain.place.path(key)) for key, _ in files if key]
        cell: Any = read_cell({**spec, "metrics": paths})
        found_cells.append(dataclasses.replace(cell, metrics=tuple(spec.get("metrics", []))))
        found.cells += 1
        values = {
            "reported": cell.reported,
            "reported_spread": cell.reported_spread,
            "ours": cell.mean,
            "spread": cell.spread,
            "difference": cell.difference,
        }
        texts = {name: "" if value is None else f"{value:.4f}" for name, value in values.items()}
        texts |= {"seeds": str(len(cell.values)), "verdict": cell.verdict, "points": "; ".join(cell.points)}
        texts |= {"row": row["label"], "column": column["label"]}
        for name, text in texts.items():
            if printed.get(name) != text:
                edited = True
                yield table, f"{place}: {name} is {clean(printed.get(name))}, and {text or 'nothing'} follows"
    if len(found_cells) == len(cells) and not edited:
        yield from _printed(chain, link, found_cells, found)


def _printed(chain: Chain, link: Link, cells: list[Any], found: Recomputed) -> Iterator[tuple[str, str]]:
    """Yield (file, what is wrong) of every file of a table that is not what its cells give, if the same code is here.

    Args:
        chain: the records.
        link: the record of the table.
        cells: its cells, calculated again, row by row.
        found: the outcome, which says if it could not be done.
    """
    if not _same_code(link):
        found.left_out = "tables that other code wrote were not written again: all but their CSV rests on digests alone"
        return
    try:
        from wsss.report.tables import texts
    except ImportError as error:
        found.left_out = f"tables were not written again: {error.name} is not installed"
        return
    drawing = link.content["config"]
    wide = len(drawing["columns"])
    again = texts(drawing, [cells[at * wide : (at + 1) * wide] for at in range(len(drawing["rows"]))])
    for key in link.content["outputs"]:
        text = again.get(key.rpartition("/")[2])
        data = chain.hasher.text(chain.place.path(key), LARGEST)
        if text is not None and data != text.encode():
            yield key, "is not what its cells give when it is written again"


def _same_code(link: Link) -> bool:
    """Tell whether the code that wrote a table is the code that is here."""
    ran = link.content["code"]["files"]
    try:
        return bool(ran) and ran == code_state.files(link.command, link.content["config"])
    except (AssertionError, KeyError, TypeError, ValueError, OSError, SyntaxError, ImportError):
        return False


def _of_claims(chain: Chain, link: Link, found: Recomputed) -> Iterator[tuple[str, str]]:
    """Yield (file, what is wrong) of every comparison of claims that does not follow from the metrics it names."""
    from wsss.report.judging import judge_all, printed

    drawing, table = link.content["config"], next(key for key in link.content["outputs"] if key.endswith("table.csv"))
    rows = read_cells(chain, link)
    known: list[Any] = []
    for row in drawing["rows"]:
        cells = []
        for cell in row["cells"]:
            files = [_metrics(chain, link, text) for text in cell.get("metrics", [])]
            if unlisted := next((text for key, text in files if key is None), None):
                yield table, f"{row['label']}: {unlisted} is not among the inputs of its record"
                return
            cells.append({**cell, "metrics": [str(chain.place.path(key)) for key, _ in files if key]})
        known.append({**row, "cells": cells})
    judged = judge_all({**drawing, "rows": known})
    texts = [printed(claim, one) for claim in judged for one in claim.comparisons]
    if len(rows) != len(texts):
        yield table, f"has {len(rows)} comparisons, and its settings ask for {len(texts)}"
        return
    found.cells += len(texts)
    for shown, follows in zip(rows, texts, strict=True):
        for name, text in follows.items():
            if shown.get(name) != text:
                yield table, f"{follows['row']}: {name} is {clean(shown.get(name))}, and {text or 'nothing'} follows"


def _metrics(chain: Chain, link: Link, text: str) -> tuple[str | None, str]:
    """Return the name of a metrics file that a drawing names, if the record lists it."""
    key = key_in(text, link.content["results"])
    return (key if key in link.content["inputs"] else None), text


# ---- metrics


def _of_metrics(chain: Chain, link: Link, found: Recomputed) -> Iterator[tuple[str, str]]:
    """Yield (file, what is wrong) of every number of a metrics file that does not follow from its counts."""
    for key in link.content["outputs"]:
        data = chain.hasher.text(chain.place.path(key), LARGEST)
        if isinstance(data, Seen):
            continue
        content = json.loads(data)
        absent = link.content["config"]["measure"].get("absent", "zero")
        for name, point in content["points"].items():
            if not all(part in point for part in COUNTS):
                continue
            found.points += 1
            yield from ((key, f"{name}: {text}") for text in _differences(point, absent))
        if "sweep" in content:
            found.points += 1
            yield from ((key, f"sweep: {text}") for text in _differences(content["sweep"], absent))
        yield from ((key, text) for text in _selection(content))


def _differences(stored: Content, absent: str) -> Iterator[str]:
    """Yield the numbers that do not follow from the counts stored beside them."""
    import numpy as np

    from wsss.measure.counts import Counts
    from wsss.measure.metrics import iou, summary

    counts = Counts(*(np.asarray(stored[part], np.int64) for part in COUNTS))
    values: dict[str, Any] = dict(summary(counts, absent))
    if "iou" in stored:
        values["iou"] = iou(counts)
    for name, value in values.items():
        if name in stored and not _same(stored[name], np.asarray(value).tolist()):
            yield f"{name} is {clean(_shown(stored[name]))}, and {_shown(np.asarray(value).tolist())} follows"


def _selection(content: Content) -> Iterator[str]:
    """Yield operating points that are not the best of those they were selected among."""
    points = content["points"]
    of_alphas = {name: point["miou"] for name, point in points.items() if name.startswith("alpha=")}
    if of_alphas and "best" in points and points["best"]["miou"] != max(of_alphas.values()):
        yield "best: is not the best of its exponents"
    if "highest" in points and "sweep" in content:
        mious = content["sweep"]["miou"]
        at = content["sweep"]["thresholds"][mious.index(max(mious))]
        if points["highest"]["threshold"] != at:
            yield f"highest: is not the best threshold of the sweep, which is {at}"


def _same(stored: Any, value: Any) -> bool:
    if isinstance(stored, list) and isinstance(value, list):
        return len(stored) == len(value) and all(map(_same, stored, value))
    if stored is None or (isinstance(value, float) and math.isnan(value)):
        return stored is None and isinstance(value, float) and math.isnan(value)
    return isinstance(stored, float | int) and math.isclose(stored, value, rel_tol=CLOSE, abs_tol=CLOSE)


def _shown(value: Any) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)[:60]
