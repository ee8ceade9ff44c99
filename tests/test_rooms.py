"""The table of rooms in docs/architecture.md holds: no module imports what its room may not."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workflow/wsss"
NAME = re.compile(r"`([^`]+)`")


def rows() -> list[tuple[list[str], list[str]]]:
    """Read the table: for each room of Python code its modules without ``wsss.``, and what they may import."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Rooms")[2]
    table = re.findall(r"^\| (.*workflow/wsss/.*) \| .* \| (.*) \|$", text, re.M)
    return [
        ([module(path) for path in NAME.findall(paths)], NAME.findall(allowed) or [allowed]) for paths, allowed in table
    ]


def shared() -> list[str]:
    """Read the sentence above the table, which names what all may import."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Rooms")[2].partition("| room |")[0]
    return NAME.findall(text)


def module(path: str) -> str:
    """Turn ``workflow/wsss/plan/`` into ``plan``, and ``loop.py`` into ``loop``."""
    return path.removeprefix("workflow/wsss/").removesuffix("/").removesuffix(".py").replace("/", ".")


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def imported(path: Path) -> Iterator[str]:
    """Name the modules of the package that a file imports, also inside of functions, but not for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and within(str(node.module), "wsss"):
            names = [f"{node.module}.{alias.name}".removeprefix("wsss.") for alias in node.names]
            yield from (name if name in modules() else name.rpartition(".")[0] for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("wsss.") for alias in node.names if within(alias.name, "wsss"))


@functools.cache
def modules() -> dict[str, Path]:
    """List the modules of the package."""
    paths = {module(str(path.relative_to(PACKAGE))).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")}
    return {name: path for name, path in paths.items() if name != "__init__"}


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_is_in_one_room_and_imports_what_that_may(name):
    rooms = [(room, allowed) for room, allowed in rows() if any(within(name, part) for part in room)]
    if not rooms:
        assert name in shared(), f"{name} is in no room"
        rooms = [([name], [])]
    ((room, allowed),) = rooms
    if allowed == ["all"]:
        return
    foreign = {
        other
        for other in imported(modules()[name])
        if not any(within(other, part) for part in [*room, *allowed, *shared()])
    }
    assert not foreign, f"{name} imports {', '.join(sorted(foreign))}"
