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
from wsss.report.judging import MARKS, RULE, tally
from wsss.report.rendering import markdown
from wsss.stages import TRAINED

BEGIN, END = "<!-- evidence: written by `wsss evidence` -->", "<!-- end of evidence -->"
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


def write_evidence(folders: Sequence[str | Path], out: str | Path) -> None:
    """Write the tables between the two marks of a document; the text around them stays.

    Args:
        folders: of judged claims, one per data set, such as ``results/shapes/claims/claims``.
        out: the document.

    Raises:
        WsssError: there are no claims in a folder, or not those of its record; the document has no marks.
    """
    out = Path(out)
    text = out.read_text(encoding="utf-8") if out.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise WsssError(f"{out}: has no lines '{BEGIN}' and '{END}', between which the tables are written")
    found = [read(folder) for folder in folders]
    write_text(out, f"{before}{BEGIN}\n{tables(found)}{END}{after}")


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


def tables(found: Sequence[Evidence]) -> str:
    """Return all tables as Markdown."""
    parts = [_verdicts(found), _circumstances(found), f"The rule: {RULE}.", _claims(found)]
    return "\n" + "\n\n".join(parts) + "\n\n"


def _verdicts(found: Sequence[Evidence]) -> str:
    """Count the claims of each verdict, data set by data set."""
    heads = ["data set", "seeds", "claims", *(verdict for verdict in MARKS)]
    rows = []
    for one in found:
        verdicts = list(one.claims["claim_verdict"])
        seeds = ", ".join(map(str, one.content["config"]["seeds"]))
        rows.append([one.dataset, seeds, str(len(verdicts)), *(str(number) for _, number, _ in tally(verdicts))])
    return _table(heads, rows)


def _circumstances(found: Sequence[Evidence]) -> str:
    """List the circumstances: jobs, time, device, commit, and the content digest of the judged claims."""
    heads = ["data set", "trainings", "jobs", "computing time", "date", "device", "commit", "content digest"]
    rows = []
    for one in found:
        commands = Counter(link.command for link in one.links)
        seconds = sum(link.content["seconds"] for link in one.links)
        rows.append(
            [
                one.dataset,
                str(sum(commands[name] for name in TRAINED)),
                str(len(one.links)),
                f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min",
                max(str(link.content["ended"]) for link in one.links)[:10],
                ", ".join(sorted(devices_of(one.links))),
                ", ".join(sorted({commit_of(link) for link in one.links})),
                f"`{one.content['identity'][:12]}`",
            ]
        )
    return _table(heads, rows)


def _claims(found: Sequence[Evidence]) -> str:
    """Return every claim on every data set: the reported differences, and ours of the comparison that decides."""
    joined = pd.concat([one.comparisons.assign(at=i) for i, one in enumerate(found)])
    rows = []
    for _, of in joined.groupby("claim", sort=False):
        first = of[of["at"] == of["at"].iloc[0]]
        reported = ", ".join(_number(text) for text in first["reported"]) if any(first["reported"]) else NONE
        cells = [_cell(of[of["at"] == i]) for i in range(len(found))]
        rows.append([first["paper"].iloc[0], first["says"].iloc[0], reported, *cells])
    return _table(["paper", "claim", "reported", *(one.dataset for one in found)], rows)


def _cell(comparisons: pd.DataFrame) -> str:
    """Return a claim on one data set: verdict, difference, interval; of several comparisons also which one it is."""
    for _, line in comparisons[comparisons["decides"] == "yes"].iterrows():
        verdict = f"{MARKS[line['claim_verdict']]} {line['claim_verdict']}"
        if not line["ours"]:
            return f"{verdict}: {line['missing']}"
        interval = f" ({_number(line['low'])} to {_number(line['high'])})" if line["low"] else ""
        which = f"; {line['row'].partition(': ')[2]}" if len(comparisons) > 1 else ""
        return f"{verdict}, {_number(line['ours'])}{interval}{which}"
    return NONE


def _number(text: str) -> str:
    return f"{float(text):+.2f}".replace("-", "−") if text else NONE


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
