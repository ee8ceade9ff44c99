"""Whether a claim holds: the rule, and its use on the metrics of a data set. Needs no pandas, and draws nothing."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from wsss.report.cells import Cell, read_cell
from wsss.report.drawing import ClaimsDrawing, Comparison

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "does not hold", "undecided", "not run"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NOT_RUN)
PLURAL = {HOLDS: "hold", FAILS: "do not hold"}
MARKS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?", NOT_RUN: "–"}
LEVEL = 0.95  # of the intervals
MARGIN = 1.0  # points by which two results may differ and still be about equal
ZONES = {  # direction -> the bounds of the difference if the claim is true, in points
    "above": (0.0, math.inf),
    "below": (0.0, math.inf),
    "rising": (0.0, math.inf),
    "falling": (0.0, math.inf),
    "at_least": (-MARGIN, math.inf),
    "equal": (-MARGIN, MARGIN),
}
PLACES = {  # direction -> words for it
    **dict.fromkeys(("above", "below", "rising", "falling"), "above 0"),
    "at_least": f"above −{MARGIN:g}",
    "equal": f"between −{MARGIN:g} and {MARGIN:g}",
}
WHERE = {HOLDS: "wholly inside", FAILS: "wholly outside", UNDECIDED: "not wholly inside"}  # where the interval is
RULE = (
    "each seed gives one difference, that of its two results. The mean of these differences over the seeds has a "
    f"{LEVEL:.0%} interval (Student's t). A claim holds if the whole interval lies where the claim puts the "
    f"difference: above 0; for what is claimed to be no worse, above -{MARGIN:g} point; for what is claimed to be "
    f"equal, between -{MARGIN:g} and {MARGIN:g} point. It does not hold if the whole interval lies outside, and is "
    "undecided otherwise. One seed has no interval and decides nothing. A claim of several comparisons holds if all of "
    "them hold, and does not hold if one of them does not"
)


@dataclass(frozen=True)
class Judged:
    """One comparison of a claim.

    Args:
        label: what is compared: ``seam - baseline``.
        direction: the direction of its claim.
        reported: the reported difference in points, if there is one.
        differences: ours, one per seed; a positive one speaks for the claim.
        missing: the reason why there are none.
    """

    label: str
    direction: str
    reported: float | None
    differences: tuple[float, ...]
    missing: str | None

    @property
    def mean(self) -> float | None:
        """The mean over seeds."""
        return statistics.fmean(self.differences) if self.differences else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the mean; None with fewer than two seeds."""
        n = len(self.differences)
        if n < 2:
            return None
        from scipy.special import stdtrit  # scipy.stats takes half a second to load

        mean = statistics.fmean(self.differences)
        quantile = float(stdtrit(n - 1, (1 + LEVEL) / 2))
        half = quantile * statistics.stdev(self.differences) / math.sqrt(n)
        return mean - half, mean + half

    @property
    def verdict(self) -> str:
        """One of ``VERDICTS``."""
        if not self.differences:
            return NOT_RUN
        if self.interval is None:
            return UNDECIDED
        low, high = self.interval
        least, most = ZONES[self.direction]
        if low > least and high < most:
            return HOLDS
        if high < least or low > most:
            return FAILS
        return UNDECIDED

    @property
    def reason(self) -> str:
        """Why the verdict is what it is."""
        if not self.differences:
            return self.missing or "not computed"
        if self.interval is None:
            return "one seed has no interval and decides nothing"
        low, high = self.interval
        interval = f"{low:+.2f} to {high:+.2f}".replace("-", "−")
        return f"the interval, {interval}, is {WHERE[self.verdict]} what is claimed: {PLACES[self.direction]}"

    @property
    def room(self) -> float:
        """The distance from the interval to the nearer edge of what is claimed; negative if it reaches beyond.

        One seed has no interval; then the distance is that of the difference itself.
        """
        if self.mean is None:
            return math.inf
        low, high = self.interval or (self.mean, self.mean)
        least, most = ZONES[self.direction]
        return min(low - least, most - high)


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its comparisons.

    Args:
        name: ``paper/claim``.
        paper: the name of the paper.
        says: its sentence.
        source: where it stands.
        direction: its direction.
        comparisons: what it was judged by.
    """

    name: str
    paper: str
    says: str
    source: str
    direction: str
    comparisons: tuple[Judged, ...]

    @property
    def verdict(self) -> str:
        """The verdict of the claim: it fails if one comparison fails, and holds if all were made and hold."""
        found = {one.verdict for one in self.comparisons}
        for verdict in (FAILS, NOT_RUN, UNDECIDED):
            if verdict in found:
                return verdict
        return HOLDS

    @property
    def weakest(self) -> Judged:
        """The comparison that decides the verdict: of those that have it, the one with the least room."""
        deciding = [one for one in self.comparisons if one.verdict == self.verdict]
        return min(deciding, key=lambda one: one.room)


def judge(row: Comparison, direction: str) -> Judged:
    """Judge one comparison of a drawing by its metrics files.

    Raises:
        WsssError: a file is missing, or has no such operating point or class.
    """
    first, second = map(read_cell, row["cells"])
    missing = row.get("missing") or _missing(first) or _missing(second)
    differences: tuple[float, ...] = ()
    if not missing:
        pairs = zip(first.values, second.values, strict=True)
        differences = tuple(a - b for a, b in pairs)
    return Judged(row["label"], direction, row["reported"], differences, missing)


def _missing(side: Cell) -> str | None:
    """Give the reason why a side has no values."""
    return None if side.values else side.missing


def judge_all(drawing: ClaimsDrawing) -> list[JudgedClaim]:
    """Judge all claims of a drawing."""
    found = []
    for claim in drawing["claims"]:
        rows = [row for row in drawing["rows"] if row["claim"] == claim["claim"]]
        judged = [judge(row, claim["direction"]) for row in rows]
        found.append(
            JudgedClaim(
                name=claim["claim"],
                paper=claim["paper"],
                says=claim["says"],
                source=claim["source"],
                direction=claim["direction"],
                comparisons=tuple(judged),
            )
        )
    return found


def tally(verdicts: list[str]) -> list[tuple[str, int, str]]:
    """List (verdict, number of claims, words for so many) of every verdict, also of those that no claim has."""
    found = []
    for verdict in VERDICTS:
        number = verdicts.count(verdict)
        words = verdict if number == 1 else PLURAL.get(verdict, verdict)
        found.append((verdict, number, words))
    return found


def in_words(verdicts: list[str]) -> str:
    """Count the claims of each verdict in words: ``12 hold, 1 does not hold, 3 undecided, 0 not run``."""
    return ", ".join(f"{number} {words}" for _, number, words in tally(verdicts))


def printed(claim: JudgedClaim, one: Judged) -> dict[str, str]:
    """Return the texts of a comparison in a CSV file, which an audit calculates again."""
    low, high = one.interval or (None, None)
    return {
        "row": f"{claim.name}: {one.label}",
        "column": "difference",
        "reported": _plain(one.reported),
        "ours": _plain(one.mean),
        "low": _plain(low),
        "high": _plain(high),
        "seeds": str(len(one.differences)),
        "verdict": one.verdict,
        "claim_verdict": claim.verdict,
        "decides": "yes" if one is claim.weakest else "",
        "differences": "; ".join(map(_plain, one.differences)),
        "missing": one.missing or "",
    }


def _plain(value: float | None) -> str:
    """Write a number as CSV files have it; nothing for none."""
    return "" if value is None else f"{value:.4f}"
