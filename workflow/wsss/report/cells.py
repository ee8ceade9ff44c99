"""One number of a table: what the paper reports, what the runs gave, and how the two compare."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from wsss.errors import WsssError
from wsss.files import read_json
from wsss.report.drawing import CellSpec

Raw = dict[str, Any]  # a mapping as YAML or JSON has it
# The rule behind the verdict, in points of a percentage: stated once, printed under every table that has a verdict.
CLOSE, NEAR, SIGMAS = 1.0, 3.0, 2.0
MARKS = {"reproduced": "✓", "partly": "≈", "not": "✗"}  # verdict -> its mark
EPS = 1e-9  # a difference of exactly 1 point is within 1 point, whatever its last bit
RULE = (
    f"reproduced: within {CLOSE:g} point of the reported value, or within {SIGMAS:g} standard deviations (ours or the "
    f"reported one, whichever is larger) and {NEAR:g} points; partly: within {NEAR:g} points; not: beyond"
)


@dataclass(frozen=True)
class Cell:
    """One number: the reported value and ours, in the table's unit.

    Args:
        reported: the paper's value, if it has one.
        reported_spread: its standard deviation, if the paper gives it.
        values: ours, one per seed.
        missing: the reason why there are none.
        not_comparable: the reason why ours has no verdict; None if it has.
        points: the operating point of each seed.
        metrics: the file of metrics of each seed.
        scale: 100 where the unit is percent, 1 where it is a fraction.
    """

    reported: float | None
    reported_spread: float | None
    values: tuple[float, ...]
    missing: str | None
    not_comparable: str | None
    points: tuple[str, ...]
    metrics: tuple[str, ...]
    scale: int = 100

    @property
    def mean(self) -> float | None:
        """The mean over seeds."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds."""
        if len(self.values) < 2:
            return None
        return statistics.stdev(self.values)

    @property
    def difference(self) -> float | None:
        """Ours minus the reported value."""
        if self.mean is None or self.reported is None:
            return None
        return self.mean - self.reported

    @property
    def verdict(self) -> str:
        """Return ``reproduced``, ``partly``, ``not``, or the reason why there is no verdict."""
        if self.mean is None:
            return self.missing or "no value reported, none asked for"
        if self.difference is None:
            return "not reported"
        if self.not_comparable:
            return f"not comparable: {self.not_comparable}"
        points = 100 / self.scale
        distance = abs(self.difference) * points
        if distance > NEAR + EPS:  # a large spread excuses no more than this
            return "not"
        spread = max(self.spread or 0.0, self.reported_spread or 0.0) * points
        close = max(CLOSE, SIGMAS * spread)
        return "reproduced" if distance <= close + EPS else "partly"


def read_cell(spec: CellSpec) -> Cell:
    """Fill a cell of a drawing from its metrics files.

    Raises:
        WsssError: a file is missing, or has no such operating point or class.
    """
    scale = spec.get("scale", 100)
    values: list[float] = []
    points: list[str] = []
    undefined = None
    for path in spec.get("metrics", []):
        metrics = read_json(path)
        point = operating_point(metrics, spec["at"], path)
        value = _value(point, spec, metrics, path)
        if isinstance(value, str):
            undefined = value
            continue
        values.append(value * scale)
        points.append(_describe(spec["at"], point))
    return Cell(
        reported=spec.get("reported"),
        reported_spread=spec.get("spread"),
        values=() if undefined else tuple(values),
        missing=undefined or spec.get("missing") or _quoted(spec),
        not_comparable=spec.get("not_comparable"),
        points=tuple(points),
        metrics=tuple(spec.get("metrics", [])),
        scale=scale,
    )


def operating_point(metrics: Raw, at: str, path: str) -> Raw:
    """Return one entry of ``points`` of a metrics file.

    Raises:
        WsssError: there is none of this name.
    """
    if at not in metrics["points"]:
        raise WsssError(f"{path}: no operating point '{at}': choose one of {', '.join(metrics['points'])}")
    return dict(metrics["points"][at])


def _quoted(spec: CellSpec) -> str | None:
    """Give the source of a value that is quoted from the literature, as the reason why ours is missing."""
    source = spec.get("literature")
    if not source:
        return None
    return f"no value in {source}" if spec.get("reported") is None else f"quoted: {source}"


def _value(point: Raw, spec: CellSpec, metrics: Raw, path: str) -> float | str:
    """Return the number that is asked for, as a fraction, or the reason why there is none.

    Args:
        point: the operating point.
        spec: the cell, which names the metric and the class.
        metrics: the content of the metrics file.
        path: the file, for errors.

    Raises:
        WsssError: the data set has no such class.
    """
    metric = spec["metric"]
    if metric != "iou":
        value = point[metric]
        return f"{metric} has no value here" if value is None or math.isnan(value) else float(value)
    name, classes = spec["class"], metrics["classes"]
    if name in classes:
        return float(point["iou"][classes.index(name)])
    if spec.get("not_comparable"):
        return f"data set {spec['dataset']} has no such class"
    raise WsssError(f"{path}: no class '{name}': choose one of {', '.join(classes)}")


def _describe(at: str, point: Raw) -> str:
    """Name an operating point: its threshold, or what was selected for it."""
    if "threshold" in point:
        return f"threshold {point['threshold']:.2f}"
    return str(point.get("selected", at))
