"""Targets: the words a person may type, and the tables, figures and claims they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from wsss.errors import choose
from wsss.plan import claims
from wsss.plan.drawings import about, obstacle
from wsss.plan.plan import Plan
from wsss.plan.target import Target

__all__ = ["Target"]

EVERYTHING = "everything"


def every(plan: Plan) -> list[Target]:
    """Return all claims, tables and figures of the configured papers, also those that cannot be made."""
    found = []
    if claims.members(plan, claims.ALL):
        found.append(Target(claims.ALL, "claims", claims.NAME))
    for paper in plan.papers:
        found += _of_paper(plan, paper)
    return found


def _of_paper(plan: Plan, paper: str) -> Iterator[Target]:
    """Yield the claims, tables and figures of a paper."""
    spec = plan.papers[paper]
    if spec.get("claims"):
        yield Target(paper, "claims", claims.NAME)
    for kind in ("tables", "figures"):
        for name in spec.get(kind, {}):
            yield Target(paper, kind, name)


def folder(plan: Plan, dataset: str, target: Target) -> str:
    """Return the folder that a table, a figure or claims are written to."""
    return str(plan.results / dataset / target.kind / target.word)


def available(plan: Plan, dataset: str) -> dict[str, Target]:
    """Return the targets that can be made for a data set, by their words."""
    found = {}
    for target in every(plan):
        if obstacle(plan, dataset, target) is None:
            found[target.word] = target
    return found


def folders(plan: Plan, dataset: str) -> dict[str, str]:
    """Return the folders of the targets that can be made, by their words."""
    found = {}
    for word, target in available(plan, dataset).items():
        found[word] = folder(plan, dataset, target)
    return found


def paper_of(word: str) -> str:
    """Return the paper of a table, a figure or claims; a paper's own name is itself."""
    return word.split("_", 1)[0]


def words(plan: Plan, dataset: str) -> dict[str, list[str]]:
    """Return the words that a person may type (a target, a paper for all of its, ``everything``) and their meanings."""
    known = list(available(plan, dataset))
    found = {word: [word] for word in known}
    for paper in plan.papers:
        found[paper] = [word for word in known if paper_of(word) == paper]
    return found | {EVERYTHING: known}


def meaning_of(plan: Plan, word: str) -> str:
    """Describe in a line of help the meaning of one of ``words``."""
    for target in every(plan):
        if target.word == word:
            entry = about(plan, target)
            return str(entry["title"])
    whose = "all papers" if word == EVERYTHING else word
    return f"All tables, figures and claims of {whose}"


def chosen(plan: Plan, dataset: str, asked: Iterable[str]) -> list[str]:
    """Return the tables, figures and claims that all these words mean, each once.

    Raises:
        WsssError: a word means none.
    """
    meaning = words(plan, dataset)
    found: dict[str, None] = {}
    for word in asked:
        found |= dict.fromkeys(choose(meaning, word, "table, figure, claims or paper"))
    return list(found)


def default(plan: Plan, dataset: str) -> list[str]:
    """List the tables and figures that are made when no target is named.

    It is what ``targets`` of the configuration says, else those of the data set's whose papers are configured.
    """
    if asked := plan.config.get("targets"):
        return chosen(plan, dataset, _as_list(asked))
    own = plan.dataset(dataset).get("targets", EVERYTHING)
    known = {*plan.papers, EVERYTHING, claims.NAME}
    there = [word for word in _as_list(own) if paper_of(word) in known]
    return chosen(plan, dataset, there)


def _as_list(words: str | list[str]) -> list[str]:
    return [words] if isinstance(words, str) else words


def named(plan: Plan, dataset: str, asked: Iterable[str]) -> list[str]:
    """Return the targets among what Snakemake is asked for: by word, by a file of theirs, or those of no name."""
    texts = list(map(str, asked))
    page = str(plan.results / dataset / "report" / "index.html")
    if not texts or "all" in texts or page in texts:
        return default(plan, dataset)
    known = words(plan, dataset)
    by_word = [text for text in texts if text in known]
    by_file = _with_files(plan, dataset, texts)
    return chosen(plan, dataset, [*by_word, *by_file])


def _with_files(plan: Plan, dataset: str, texts: list[str]) -> Iterator[str]:
    """Yield the targets among whose files one of ``texts`` is."""
    asked: set[Path] = set()
    for text in texts:
        asked.update(Path(text).parents)
    for word, place in folders(plan, dataset).items():
        if Path(place) in asked:
            yield word
