"""The digest of the code that a job really runs.

A job's code starts at its entry points. From there imports are followed by ``ast``, also those inside functions.
Imports for type checkers are not followed. A registry (``wsss.registry``) is followed only to the entries that the
settings name. Comments, docstrings and the layout of a file do not count. Files that a module names in ``READS`` do.

So a comment, a new method or a new stage changes no digest, and an edit of code that a job runs always does.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wsss.files import digest
from wsss.stages import STAGES, Stage

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT.name
SKIPPED = ("ctx", "kind", "type_comment", "type_ignores", "type_params", "lineno")  # fields that decide nothing
DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)  # what may hold an import
YAML = (".yaml", ".yml")


def stage_code(name: str, settings: Any) -> str:
    """Return the digest of the code of a stage under settings that name its method, networks and so on."""
    return digest_of(entry_points(STAGES[name]), settings)


def entry_points(stage: Stage) -> list[str]:
    """Return the functions that a stage's job calls, as ``module:function``."""
    if stage.in_shards:
        return ["wsss.job:give", "wsss.run_shards:run_shards", stage.function]
    if stage.trains:
        return ["wsss.job:give", "wsss.run_training:run_training", stage.function]
    return [stage.function] if stage.makes == "index" else ["wsss.job:give", stage.function]


def digest_of(entries: Iterable[str], settings: Any) -> str:
    """Return the digest of the code below entry points, SHA-256 in hex digits."""
    lines = [f"{file} {found}\n" for file, found in files_of(entries, settings).items()]
    return digest("".join(lines))


def files_of(entries: Iterable[str], settings: Any) -> dict[str, str]:
    """Return the files below entry points and the digest of what counts in each, sorted by path from the package."""
    modules = frozenset(entry.partition(":")[0] for entry in entries)
    return _files_of(modules, frozenset(names_in(settings)) & _registered())


def names_in(settings: Any) -> Iterator[str]:
    """Yield all texts in nested settings; of ``vit:deit_small`` also ``vit``."""
    if isinstance(settings, str):
        yield settings
        yield settings.partition(":")[0]
    elif isinstance(settings, dict):
        for inner in settings.values():
            yield from names_in(inner)
    elif isinstance(settings, list | tuple):
        for inner in settings:
            yield from names_in(inner)


@functools.cache
def _files_of(start: frozenset[str], names: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    waiting, seen = sorted(start), set(start)
    while waiting:
        module = _read(waiting.pop())
        used = {name: entry for name, entry in module.registered.items() if name in names}
        entries = [used[name].text for name in sorted(used)]
        found[module.path] = digest("\n".join([module.body, *entries]))
        for file in module.reads:
            found[file] = _data(file)
        wanted = module.imports.union(*(entry.imports for entry in used.values()))
        waiting += sorted(wanted - seen)
        seen |= wanted
    return dict(sorted(found.items()))


# ---- one module


@dataclass(frozen=True)
class _Entry:
    """One entry of a registry: its text, and the modules that it stands for."""

    text: str
    imports: frozenset[str]


@dataclass
class _Module:
    """The parts of one module that count."""

    path: str
    body: str = ""
    imports: frozenset[str] = frozenset()
    registered: dict[str, _Entry] = field(default_factory=dict)
    reads: tuple[str, ...] = ()


@functools.cache
def _read(name: str) -> _Module:
    path = _path(name)
    assert path is not None, f"no module {name}"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = _Module(path.relative_to(ROOT).as_posix())
    statements = []
    for statement in tree.body:
        if table := _registry(statement):
            module.registered |= table
        elif not _for_type_checkers(statement):
            statements.append(statement)
            module.reads += _reads(statement)
    module.body = "\n".join(_text(statement) for statement in _without_docstring(statements))
    module.imports = frozenset(_imports(statements)) | _packages(name)
    return module


def _path(name: str) -> Path | None:
    """Return the file of a module of the package."""
    place = ROOT.joinpath(*name.split(".")[1:])
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if name.split(".")[0] == PACKAGE and path.is_file():
            return path
    return None


def _packages(name: str) -> frozenset[str]:
    """Return the packages around a module, which Python imports first."""
    parts = name.split(".")
    return frozenset(".".join(parts[:end]) for end in range(1, len(parts)))


def _imports(statements: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the modules of the package that statements import, at any depth, but not for type checkers."""
    for statement in statements:
        if _for_type_checkers(statement):
            continue
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names if _path(alias.name))
        elif isinstance(statement, ast.ImportFrom):
            yield from _from(statement)
        for _, value in ast.iter_fields(statement):
            inner = value if isinstance(value, list) else [value]
            yield from _imports([child for child in inner if isinstance(child, BLOCKS)])


def _from(statement: ast.ImportFrom) -> Iterator[str]:
    """Yield what ``from wsss.a import b`` imports: ``wsss.a``, and ``wsss.a.b`` if that is a module."""
    assert not statement.level, "relative imports are not followed"
    parent = statement.module or ""
    if _path(parent):
        yield parent
        yield from (inner for alias in statement.names if _path(inner := f"{parent}.{alias.name}"))


def _for_type_checkers(statement: ast.AST) -> bool:
    if not isinstance(statement, ast.If) or not isinstance(statement.test, ast.Name):
        return False
    return statement.test.id == "TYPE_CHECKING"


def _registry(statement: ast.stmt) -> dict[str, _Entry]:
    """Return the entries of ``NAME: Registry[...] = {...}``; nothing for other statements."""
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.value, ast.Dict):
        return {}
    if not _is_registry(statement.annotation):
        return {}
    entries = {}
    for key, value in zip(statement.value.keys, statement.value.values, strict=True):
        assert isinstance(key, ast.Constant), "the names of a registry are literal"
        assert isinstance(key.value, str), "the names of a registry are texts"
        entries[key.value] = _Entry(f"{key.value}={_text(value)}", frozenset(_stands_for(value)))
    return entries


def _is_registry(kind: ast.expr) -> bool:
    """Tell whether an annotation is ``Registry[...]``."""
    name = kind.value if isinstance(kind, ast.Subscript) else None
    return isinstance(name, ast.Name) and name.id == "Registry"


def _stands_for(value: ast.expr) -> Iterator[str]:
    """Yield the modules that a registry's value names as ``module:attribute``, in itself or in a nested dict."""
    if not isinstance(value, ast.Constant | ast.Dict):
        return
    constants = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant)]
    for text in constants:
        module = text.partition(":")[0] if isinstance(text, str) else ""
        if _path(module):
            yield module


@functools.cache
def _registered() -> frozenset[str]:
    """Collect all names in all registries of the package."""
    names: set[str] = set()
    for path in ROOT.rglob("*.py"):
        if "Registry[" in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names |= set(_read(".".join((PACKAGE, *parts)).removesuffix(".__init__")).registered)
    return frozenset(names)


def _reads(statement: ast.stmt) -> tuple[str, ...]:
    """Return the files that ``READS = (...)`` names, by path from the package."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return ()
    return tuple(ast.literal_eval(statement.value)) if statement.targets[0].id == "READS" else ()


def _data(file: str) -> str:
    """Return the digest of a file that is no code. Comments in YAML do not count."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if file.endswith(YAML):
        text = json.dumps(yaml.safe_load(text), sort_keys=True, default=str)
    return digest(text)


def _without_docstring(statements: list[Any]) -> list[Any]:
    first = statements[0] if statements else None
    value = first.value if isinstance(first, ast.Expr) else None
    documented = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return statements[1:] if documented else statements


def _text(node: Any) -> str:
    """Write a syntax tree as a text that does not depend on Python's version, without docstrings."""
    if isinstance(node, list):
        return f"[{','.join(_text(inner) for inner in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    kind: Any = type(node)
    parts = []
    for name in _fields(kind):
        value = getattr(node, name, None)
        if value is None or value == []:
            continue
        documented = name == "body" and kind in DOCUMENTED
        parts.append(f"{name}={_text(_without_docstring(value) if documented else value)}")
    return f"{kind.__name__}({','.join(parts)})"


@functools.cache
def _fields(kind: Any) -> tuple[str, ...]:
    """Return the fields of a kind of node that decide something."""
    return tuple(name for name in kind._fields if name not in SKIPPED)
