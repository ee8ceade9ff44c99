"""The digest of the code that a job really runs.

A job's code starts at its entry points. From there imports are followed by ``ast``, also those inside functions.
Imports for type checkers are not followed. A registry (``wsss.registry``) is followed only to the entries that the
settings name. Comments, docstrings and the layout of a file do not count. Files that a module names in ``READS`` do.

So a comment, a new method or a new stage changes no digest, and an edit of code that a job runs always does.
"""

from __future__ import annotations

import ast
import functools
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wsss.files import digest
from wsss.stages import STAGES, Stage

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT.name
SKIPPED = ("ctx", "kind", "type_comment", "type_ignores", "type_params", "lineno")  # fields that decide nothing
BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)  # what may hold an import
DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)  # what may have a docstring
YAML = (".yaml", ".yml")


def stage_code(name: str, settings: Any) -> str:
    """Return the digest of the code of a stage under settings that name its method, networks and so on."""
    return digest_of(entry_points(STAGES[name]), settings)


def entry_points(stage: Stage) -> list[str]:
    """Return the functions that a stage's job calls, as ``module:function``."""
    if stage.makes == "index":
        return [stage.function]
    if stage.in_shards:
        return ["wsss.job:give", "wsss.run_shards:run_shards", stage.function]
    if stage.trains:
        return ["wsss.job:give", "wsss.run_training:run_training", stage.function]
    return ["wsss.job:give", stage.function]


def digest_of(entries: Iterable[str], settings: Any) -> str:
    """Return the digest of the code below entry points, SHA-256 in hex digits."""
    files = files_of(entries, settings)
    lines = [f"{file} {found}\n" for file, found in files.items()]
    return digest("".join(lines))


def files_of(entries: Iterable[str], settings: Any) -> dict[str, str]:
    """Return the files below entry points and the digest of what counts in each, sorted by path from the package."""
    modules = map(_module_of, entries)
    named = names_in(settings)
    names = _registered().intersection(named)
    return _files_of(frozenset(modules), names)


def _module_of(entry: str) -> str:
    """Return the module of ``module:function``."""
    module, _, _ = entry.partition(":")
    return module


def names_in(settings: Any) -> Iterator[str]:
    """Yield all texts in nested settings; of ``vit:deit_small`` also ``vit``."""
    waiting = [settings]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            family, _, _ = value.partition(":")
            yield value
            yield family
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


@functools.cache
def _files_of(start: frozenset[str], names: frozenset[str]) -> dict[str, str]:
    """Follow the imports of modules. Of registries only the entries of ``names`` are followed."""
    found: dict[str, str] = {}
    waiting = sorted(start)
    seen = set(start)
    while waiting:
        module = _read(waiting.pop())
        entries = module.entries_of(names)
        found[module.path] = _digest_with(module.body, *(entry.text for entry in entries))
        for file in module.reads:
            found[file] = _digest_of_data(file)
        new = module.imports_with(entries) - seen
        waiting += sorted(new)
        seen |= new
    return dict(sorted(found.items()))


@functools.cache
def _digest_with(*texts: str) -> str:
    """Return the digest of a module's body with some entries of its registries, once for all runs that share these."""
    return digest("\n".join(texts))


# ---- one module


@dataclass(frozen=True)
class _Entry:
    """One entry of a registry: its text, and the modules that it stands for."""

    text: str
    imports: frozenset[str]


@dataclass(frozen=True)
class _Module:
    """The parts of one module that count.

    Args:
        path: its path from the package.
        body: its statements without registries.
        imports: the modules that these import.
        registered: the entries of its registries, by name.
        reads: the files that are no code and that it reads.
    """

    path: str
    body: str
    imports: frozenset[str]
    registered: dict[str, _Entry]
    reads: tuple[str, ...]

    def entries_of(self, names: frozenset[str]) -> list[_Entry]:
        """List the entries of registries that have one of these names, sorted by name."""
        named = sorted(names.intersection(self.registered))
        return [self.registered[name] for name in named]

    def imports_with(self, entries: list[_Entry]) -> frozenset[str]:
        """Return the modules that this one needs with some entries of its registries."""
        behind = [entry.imports for entry in entries]
        return self.imports.union(*behind)


@functools.cache
def _read(name: str) -> _Module:
    """Read a module of the package and keep what counts."""
    path = _path(name)
    assert path is not None, f"no module {name}"
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    registered: dict[str, _Entry] = {}
    statements = []
    for statement in tree.body:
        if entries := _registry(statement):
            registered |= entries
        elif not _for_type_checkers(statement):
            statements.append(statement)
    counted = _without_docstring(statements)
    return _Module(
        path=path.relative_to(ROOT).as_posix(),
        body="\n".join(map(_text, counted)),
        imports=_packages(name).union(_imports(statements)),
        registered=registered,
        reads=tuple(_reads(statements)),
    )


def _path(name: str) -> Path | None:
    """Return the file of a module; None for what is no module of the package."""
    package, *parts = name.split(".")
    if package != PACKAGE:
        return None
    place = ROOT.joinpath(*parts)
    module = place.with_suffix(".py")
    if module.is_file():
        return module
    package_file = place / "__init__.py"
    return package_file if package_file.is_file() else None


def _packages(name: str) -> frozenset[str]:
    """Return the packages around a module, which Python imports first."""
    *outer, _ = name.split(".")
    return frozenset(itertools.accumulate(outer, "{}.{}".format))


def _imports(statements: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the modules of the package that statements import, at any depth, but not for type checkers."""
    for statement in statements:
        if _for_type_checkers(statement):
            continue
        if isinstance(statement, ast.Import):
            yield from _plainly_imported(statement)
        elif isinstance(statement, ast.ImportFrom):
            yield from _imported_from(statement)
        yield from _imports(_blocks(statement))


def _blocks(statement: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements, and what else may hold an import, right below a statement."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, BLOCKS):
            yield child


def _plainly_imported(statement: ast.Import) -> Iterator[str]:
    """Yield what ``import wsss.a, wsss.b`` imports."""
    for alias in statement.names:
        if _path(alias.name):
            yield alias.name


def _imported_from(statement: ast.ImportFrom) -> Iterator[str]:
    """Yield what ``from wsss.a import b`` imports: ``wsss.a``, and ``wsss.a.b`` if that is a module."""
    assert not statement.level, "relative imports are not followed"
    parent = statement.module or ""
    if not _path(parent):
        return
    yield parent
    for alias in statement.names:
        inner = f"{parent}.{alias.name}"
        if _path(inner):
            yield inner


def _for_type_checkers(statement: ast.AST) -> bool:
    """Tell whether a statement is ``if TYPE_CHECKING:``."""
    if not isinstance(statement, ast.If):
        return False
    test = statement.test
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _registry(statement: ast.stmt) -> dict[str, _Entry]:
    """Return the entries of ``NAME: Registry[...] = {...}``; nothing for other statements."""
    if not isinstance(statement, ast.AnnAssign):
        return {}
    table = statement.value
    if not isinstance(table, ast.Dict):
        return {}
    if not _is_registry(statement.annotation):
        return {}
    entries = {}
    for key, value in zip(table.keys, table.values, strict=True):
        name = _literal(key)
        text = f"{name}={_text(value)}"
        modules = _stands_for(value)
        entries[name] = _Entry(text, frozenset(modules))
    return entries


def _literal(key: ast.expr | None) -> str:
    """Return the name of a registry's entry."""
    assert isinstance(key, ast.Constant), "the names of a registry are literal"
    assert isinstance(key.value, str), "the names of a registry are texts"
    return key.value


def _is_registry(kind: ast.expr) -> bool:
    """Tell whether an annotation is ``Registry[...]``."""
    if not isinstance(kind, ast.Subscript):
        return False
    name = kind.value
    return isinstance(name, ast.Name) and name.id == "Registry"


def _stands_for(value: ast.expr) -> Iterator[str]:
    """Yield the modules that a registry's value names as ``module:attribute``, in itself or in a nested dict."""
    if not isinstance(value, ast.Constant | ast.Dict):
        return
    for node in ast.walk(value):
        if not isinstance(node, ast.Constant):
            continue
        if not isinstance(node.value, str):
            continue
        module = _module_of(node.value)
        if _path(module):
            yield module


@functools.cache
def _registered() -> frozenset[str]:
    """Collect all names in all registries of the package."""
    names: set[str] = set()
    for path in ROOT.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if "Registry[" in source:
            module = _read(_name_of(path))
            names.update(module.registered)
    return frozenset(names)


def _name_of(path: Path) -> str:
    """Return the name by which a file of the package is imported."""
    place = path.relative_to(ROOT.parent).with_suffix("")
    name = ".".join(place.parts)
    return name.removesuffix(".__init__")


def _reads(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """Yield the files that ``READS = (...)`` names, by path from the package."""
    for statement in statements:
        if not isinstance(statement, ast.Assign):
            continue
        target = statement.targets[0]
        if isinstance(target, ast.Name) and target.id == "READS":
            yield from ast.literal_eval(statement.value)


def _digest_of_data(file: str) -> str:
    """Return the digest of a file that is no code. Comments in YAML do not count."""
    path = ROOT / file
    text = path.read_text(encoding="utf-8")
    if file.endswith(YAML):
        content = yaml.safe_load(text)
        text = json.dumps(content, sort_keys=True, default=str)
    return digest(text)


def _without_docstring(statements: list[Any]) -> list[Any]:
    """Return statements without the text that stands before all others."""
    if statements and _is_text(statements[0]):
        return statements[1:]
    return statements


def _is_text(statement: Any) -> bool:
    """Tell whether a statement is a text alone."""
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _text(node: Any) -> str:
    """Write a syntax tree as a text that does not depend on Python's version, without docstrings."""
    if isinstance(node, list):
        inner = ",".join(map(_text, node))
        return f"[{inner}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    kind: Any = type(node)
    parts = []
    for name in _fields(kind):
        value = getattr(node, name, None)
        if value is None or value == []:
            continue
        if name == "body" and kind in DOCUMENTED:
            value = _without_docstring(value)
        text = _text(value)
        parts.append(f"{name}={text}")
    inner = ",".join(parts)
    return f"{kind.__name__}({inner})"


@functools.cache
def _fields(kind: Any) -> tuple[str, ...]:
    """Return the fields of a kind of node that decide something."""
    return tuple(name for name in kind._fields if name not in SKIPPED)
