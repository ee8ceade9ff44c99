"""The tables of ``docs/evidence.md``: which claims hold on which data, from the records of what was computed."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wsss.errors import WsssError
from wsss.files import write_text
from wsss.provenance.audit import locate
from wsss.provenance.chain import Chain, Link
from wsss.provenance.content import Content
from wsss.provenance.describe import commit_of, devices_of
from wsss.provenance.hashes import Hasher
from wsss.report.judging import MARKS, NOT_RUN, tally
from wsss.report.rendering import markdown
from wsss.stages import TRAINED

NONE = "–"


@dataclass(frozen=True)
class Evidence:
    """Judged claims of one data set, and how they came about.

    Args:
        content: the record of the job that judged them.
        comparisons: one line per comparison, as ``table.csv`` has them.
        links: the records of all jobs below, its own included.
    """

    content: Content
    comparisons: pd.DataFrame
    links: list[Link]

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return str(self.content["config"]["dataset"])

    @property
    def claims(self) -> pd.DataFrame:
        """One line per claim, by its name: the comparison that decides it."""
        return self.comparisons[self.comparisons["decides"] == "yes"].set_index("claim")


def marks(dataset: str) -> tuple[str, str]:
    """Return the lines between which the tables of a data set stand in a document."""
    return f"<!-- evidence of {dataset}: written by `wsss evidence {dataset}` -->", f"<!-- end of {dataset} -->"


def write_evidence(folders: Sequence[str | Path], out: str | Path) -> None:
    """Write the tables of each data set between its two marks in a document; the text around them stays.

    Args:
        folders: of judged claims, one per data set, such as ``results/shapes/claims/claims``.
        out: the document.

    Raises:
        WsssError: there are no claims in a folder, or not those of its record; the document has no marks.
    """
    out = Path(out)
    text = out.read_text(encoding="utf-8") if out.is_file() else ""
    for one in [read(folder) for folder in folders]:
        begin, end = marks(one.dataset)
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise WsssError(f"{out}: has no lines '{begin}' and '{end}', between which the tables are written")
        text = f"{before}{begin}\n\n{tables(one)}\n\n{end}{after}"
    write_text(out, text)


def read(folder: str | Path) -> Evidence:
    """Return the judged claims of a folder, and all records below them.

    Raises:
        WsssError: there are none, or the table is not the one of its record.
    """
    place, _, start = locate(folder)
    hasher = Hasher([place.root], cold=True)
    chain = Chain.below(place, start, hasher)
    link = chain.links.get(start)
    key = next((key for key in link.content["outputs"] if key.endswith("/table.csv")), None) if link else None
    if link is None or key is None or link.command != "judge":
        raise WsssError(f"{folder}: holds no judged claims; make the target claims, and give its folder")
    try:
        data = place.path(key).read_bytes()
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() != link.content["outputs"][key]["sha256"]:
        raise WsssError(f"{place.path(key)}: is not what its record says; `wsss audit {folder}` tells more")
    frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    return Evidence(link.content, frame, list(chain.links.values()))


# ---- tables


def tables(one: Evidence) -> str:
    """Return what is said of a data set, as Markdown."""
    return "\n\n".join([_verdicts(one), _circumstances(one), _judged(one), *_not_run(one)])


def _verdicts(one: Evidence) -> str:
    """Count the claims of each verdict."""
    verdicts = list(one.claims["claim_verdict"])
    seeds = ", ".join(map(str, one.content["config"]["seeds"]))
    numbers = [str(number) for _, number, _ in tally(verdicts)]
    return _table(["data set", "seeds", "claims", *MARKS], [[one.dataset, seeds, str(len(verdicts)), *numbers]])


def _circumstances(one: Evidence) -> str:
    """List the circumstances: jobs, time, device, commit, and the content digest of the judged claims."""
    commands = Counter(link.command for link in one.links)
    seconds = sum(link.content["seconds"] for link in one.links)
    said = {
        "trainings": str(sum(commands[name] for name in TRAINED)),
        "jobs": str(len(one.links)),
        "computing time": f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min",
        "date": max(str(link.content["ended"]) for link in one.links)[:10],
        "device": ", ".join(sorted(devices_of(one.links))),
        "commit": ", ".join(sorted({commit_of(link) for link in one.links})),
        "content digest": f"`{one.content['identity'][:12]}`",
    }
    return _table(list(said), [list(said.values())])


def _judged(one: Evidence) -> str:
    """Return the claims that were judged: the reported differences, and ours of the comparison that decides."""
    rows = []
    for name, line in one.claims[one.claims["claim_verdict"] != NOT_RUN].iterrows():
        compared = one.comparisons[one.comparisons["claim"] == name]
        reported = ", ".join(map(_number, compared["reported"])) if any(compared["reported"]) else NONE
        which = line["row"].partition(": ")[2] if len(compared) > 1 else ""
        rows.append([line["paper"], line["says"], reported, _verdict(line, which)])
    return _table(["paper", "claim", "reported", "ours"], rows)


def _not_run(one: Evidence) -> list[str]:
    """Count the claims that were not run, reason by reason and paper by paper: one paragraph, or none."""
    bare = one.claims[one.claims["claim_verdict"] == NOT_RUN]
    reasons = []
    for missing, of in bare.groupby("missing", sort=False):
        papers = Counter(of["paper"])
        reasons.append(f"{missing} ({', '.join(f'{paper} {number}' for paper, number in papers.items())})")
    return [f"Not run: {'; '.join(reasons)}."] if reasons else []


def _verdict(line: pd.Series, which: str) -> str:
    """Return a verdict with its difference and interval, and ``which`` of several comparisons it is."""
    verdict = f"{MARKS[line['claim_verdict']]} {line['claim_verdict']}, {_number(line['ours'])}"
    interval = f" ({_number(line['low'])} to {_number(line['high'])})" if line["low"] else ""
    return f"{verdict}{interval}{f'; {which}' if which else ''}"


def _number(text: str) -> str:
    return f"{float(text):+.2f}".replace("-", "−") if text else NONE


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
