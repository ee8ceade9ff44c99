"""Targets: the words a person may type, and the tables, figures and claims they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from wsss.errors import choose
from wsss.plan import claims
from wsss.plan.drawings import about, obstacle
from wsss.plan.jobs import is_result
from wsss.plan.plan import Plan
from wsss.plan.target import Target

EVERYTHING = "everything"


def every(plan: Plan) -> list[Target]:
    """Return all claims, tables and figures of the configured papers, also those that cannot be made."""
    found = []
    if claims.members(plan, claims.ALL):
        of_all = Target(claims.ALL, "claims", claims.NAME)
        found.append(of_all)
    for paper in plan.papers:
        found += _of_paper(plan, paper)
    return found


def _of_paper(plan: Plan, paper: str) -> Iterator[Target]:
    """Yield the claims, tables and figures of a paper."""
    spec = plan.papers[paper]
    tables = spec.get("tables", {})
    figures = spec.get("figures", {})
    if spec.get("claims"):
        yield Target(paper, "claims", claims.NAME)
    for name in tables:
        yield Target(paper, "tables", name)
    for name in figures:
        yield Target(paper, "figures", name)


def folder(plan: Plan, dataset: str, target: Target) -> str:
    """Return the folder that a table, a figure or claims are written to."""
    of_kind = plan.results / dataset / target.kind
    return str(of_kind / target.word)


def available(plan: Plan, dataset: str) -> dict[str, Target]:
    """Return the targets that can be made for a data set, by their words."""
    found = {}
    for target in every(plan):
        why = obstacle(plan, dataset, target)
        if why is None:
            found[target.word] = target
    return found


def folders(plan: Plan, dataset: str) -> dict[str, str]:
    """Return the folders of the targets that can be made, by their words."""
    found = {}
    there = available(plan, dataset)
    for word, target in there.items():
        found[word] = folder(plan, dataset, target)
    return found


def paper_of(word: str) -> str:
    """Return the paper of a table, a figure or claims; a paper's own name is itself."""
    paper, _, _ = word.partition("_")
    return paper


def words(plan: Plan, dataset: str) -> dict[str, list[str]]:
    """Return the words that a person may type, each with the targets that it means.

    A word is a target, a paper (all its targets), or ``everything``.
    """
    known = list(available(plan, dataset))
    found: dict[str, list[str]] = {}
    for word in known:
        found[word] = [word]
    for paper in plan.papers:
        found[paper] = _words_of(paper, known)
    found[EVERYTHING] = known
    return found


def _words_of(paper: str, known: list[str]) -> list[str]:
    """Return the words of a paper's tables, figures and claims."""
    return [word for word in known if paper_of(word) == paper]


def meaning_of(plan: Plan, word: str) -> str:
    """Describe in a line of help the meaning of one of ``words``."""
    for target in every(plan):
        if target.word != word:
            continue
        entry = about(plan, target)
        return str(entry["title"])
    whose = word
    if word == EVERYTHING:
        whose = "all papers"
    return f"All tables, figures and claims of {whose}"


def chosen(plan: Plan, dataset: str, asked: Iterable[str]) -> list[str]:
    """Return the tables, figures and claims that all these words mean, each once.

    Raises:
        WsssError: a word means none.
    """
    meaning = words(plan, dataset)
    found: dict[str, None] = {}
    for word in asked:
        meant = choose(meaning, word, "table, figure, claims or paper")
        found |= dict.fromkeys(meant)
    return list(found)


def default(plan: Plan, dataset: str) -> list[str]:
    """List the targets that are made when none is named: those of the configuration's ``targets``.

    Without these, the data set's own, as far as their papers are configured.
    """
    if asked := plan.config.get("targets"):
        return chosen(plan, dataset, _as_list(asked))
    spec = plan.dataset(dataset)
    own = _as_list(spec.get("targets", EVERYTHING))
    known = {*plan.papers, EVERYTHING, claims.NAME}
    there = [word for word in own if paper_of(word) in known]
    return chosen(plan, dataset, there)


def _as_list(words: str | list[str]) -> list[str]:
    """Return a list of words; of one word alone, a list of it."""
    if isinstance(words, str):
        return [words]
    return words


def named(plan: Plan, dataset: str, asked: Iterable[str]) -> list[str]:
    """Return what a Snakemake command line asks for: targets, by word or by one of their files, and files of runs.

    The default targets are among them if it names nothing, or names ``all`` or the page.
    """
    texts = list(map(str, asked))
    known = words(plan, dataset)
    found = default(plan, dataset) if _mean_default(plan, dataset, texts) else []
    found += [text for text in texts if text in known]
    found += _with_files(plan, dataset, texts)
    of_runs = [text for text in texts if is_result(plan, text)]
    return [*chosen(plan, dataset, found), *of_runs]


def _mean_default(plan: Plan, dataset: str, texts: list[str]) -> bool:
    """Tell whether Snakemake is asked for what is made by default: for no file, for ``all``, or for the page."""
    if not texts or "all" in texts:
        return True
    page = plan.results / dataset / "report" / "index.html"
    return str(page) in texts


def _with_files(plan: Plan, dataset: str, texts: list[str]) -> Iterator[str]:
    """Yield the targets among whose files one of ``texts`` is."""
    asked: set[Path] = set()
    for text in texts:
        around = Path(text).parents
        asked.update(around)
    places = folders(plan, dataset)
    for word, place in places.items():
        if Path(place) in asked:
            yield word
