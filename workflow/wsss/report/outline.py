"""The form of what the report page shows: papers, tables and figures with their states, and the runs below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

if TYPE_CHECKING:
    from wsss.report.chains import NumberChain
    from wsss.report.drawing import ClaimsDrawing

Kind = Literal["tables", "figures", "claims"]
Links = dict[str, str]  # short name of a file -> its address, relative to the page


class Network(TypedDict):
    """A trained network.

    Args:
        stage: the stage that trains it.
        method: the method of the run that trains it.
        backbone: the backbone of the classifier of that run.
        own: it is that of the run itself, not of one it starts from.
        seeds: with how many random seeds it is trained.
    """

    stage: str
    method: str
    backbone: str
    own: bool
    seeds: int


class Run(TypedDict):
    """A run that a table or figure rests on.

    Args:
        run: ``paper/run``.
        dataset: its data set.
        method: its method.
        backbone: the classifier's backbone.
        networks: its networks of the first seed, by their folders.
        logs: the folders of its logs, one per seed.
    """

    run: str
    dataset: str
    method: str
    backbone: str
    networks: dict[str, Network]
    logs: list[str]


class Entry(TypedDict):
    """A table, a figure or claims, and their state."""

    name: str
    kind: Kind
    paper: str
    title: str
    caption: str
    folder: str
    log: str
    state: str
    runs: list[Run]


class Protocol(TypedDict):
    """The measurement of a cell of a table, in words."""

    row: str
    attributes: str
    column: str
    run: str
    result: str
    metric: str
    images: str
    points: str


class Picture(TypedDict):
    """A picture on the page.

    Args:
        data: the picture as data.
        says: what it shows, in words.
        whole: the address of the figure as PDF; empty where there is none.
        drawn: it has no photographs, so that its colours may be inverted on a dark page.
    """

    data: str
    says: str
    whole: str
    drawn: bool


class Made(Entry):
    """An entry as the page prints it. A table has its HTML, a figure its picture, claims have both.

    Args:
        made: it is there, if perhaps stale.
        kept: its state in a word.
        verdicts: how the cells of a table came out, in words.
        protocol: how each of its cells was measured.
        worded: rows of the protocol have words beside their label.
        files: links to its files.
        digest: the content digest of its record; ``wsss audit`` prints the same.
        table: the HTML.
        chains: where each of its numbers comes from.
        picture: the figure.
        datasets: the data sets of a figure's runs.
    """

    made: bool
    kept: str
    verdicts: str
    protocol: list[Protocol]
    worded: NotRequired[bool]
    files: NotRequired[Links]
    digest: NotRequired[str]
    table: NotRequired[str]
    chains: NotRequired[list[NumberChain]]
    picture: NotRequired[Picture]
    datasets: NotRequired[list[str]]


class Paper(TypedDict):
    """A paper as its file has it."""

    title: str
    citation: str | None
    note: str | None


class Page(TypedDict):
    """The outline of the page. ``claims`` are judged as far as computed, ``stage_words`` name the result of a stage."""

    dataset: str
    papers: dict[str, Paper]
    claims: ClaimsDrawing
    entries: list[Entry]
    stage_words: dict[str, str]
