"""One number of a table: what the paper reports, what the runs gave, and how the two compare."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from wsss.errors import WsssError
from wsss.files import read_json

# The rule behind the verdict, in points of a percentage: stated once, printed under every table.
CLOSE, NEAR, SIGMAS = 1.0, 3.0, 2.0
EPS = 1e-9  # a difference of exactly 1 point is within 1 point, whatever its last bit
RULE = (
    f"reproduced: within {CLOSE:g} point of the reported value, or within {SIGMAS:g} standard deviations (ours or the "
    f"reported one, whichever is larger) and {NEAR:g} points; partly: within {NEAR:g} points; not: beyond"
)


@dataclass(frozen=True)
class Cell:
    """``reported`` and ``values`` are in the table's unit: percent where ``scale`` is 100, fractions where it is 1."""

    reported: float | None
    reported_spread: float | None
    values: tuple[float, ...]
    missing: str | None
    comparable: str | None
    points: tuple[str, ...]
    metrics: tuple[str, ...]
    scale: int = 100

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        return None if self.mean is None or self.reported is None else self.mean - self.reported

    @property
    def verdict(self) -> str:
        """``reproduced``, ``partly``, ``not``, or why there is no verdict."""
        if self.mean is None:
            return self.missing or "no value reported, none asked for"
        if self.difference is None:
            return "not reported"
        if self.comparable:
            return f"not comparable: {self.comparable}"
        points = 100 / self.scale
        distance = abs(self.difference) * points
        spread = max(self.spread or 0.0, self.reported_spread or 0.0) * points
        if distance > NEAR + EPS:  # a large spread excuses no more than this
            return "not"
        return "reproduced" if distance <= max(CLOSE, SIGMAS * spread) + EPS else "partly"


def read_cell(spec: dict) -> Cell:
    """Fill a cell of a resolved table plan from its metrics files."""
    scale = spec.get("scale", 100)
    values, points, undefined = [], [], None
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
        comparable=spec.get("not_comparable"),
        points=tuple(points),
        metrics=tuple(spec.get("metrics", [])),
        scale=scale,
    )


def operating_point(metrics: dict, at: str, path: str) -> dict:
    """One entry of ``points`` of a metrics file."""
    if at not in metrics["points"]:
        raise WsssError(f"{path}: no operating point '{at}': choose one of {', '.join(metrics['points'])}")
    return metrics["points"][at]


def _quoted(spec: dict) -> str | None:
    if not spec.get("literature"):
        return None
    return f"{'no value in' if spec.get('reported') is None else 'quoted:'} {spec['literature']}"


def _value(point: dict, spec: dict, metrics: dict, path: str) -> float | str:
    """The asked number as a fraction, or why there is none."""
    if spec["metric"] != "iou":
        value = point[spec["metric"]]
        return f"{spec['metric']} has no value here" if value is None or math.isnan(value) else value
    name = spec["class"]
    if name in metrics["classes"]:
        return point["iou"][metrics["classes"].index(name)]
    if spec.get("not_comparable"):
        return f"data set {spec['dataset']} has no such class"
    raise WsssError(f"{path}: no class '{name}': choose one of {', '.join(metrics['classes'])}")


def _describe(at: str, point: dict) -> str:
    if "threshold" in point:
        return f"threshold {point['threshold']:.2f}"
    return point.get("selected", at)
