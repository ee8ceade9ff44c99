"""Find the settings that a method declares in its own file, without loading the file.

A method's file imports torch, which takes seconds. So only its imports of types and its sections are compiled.
"""

import ast
import functools
from pathlib import Path
from typing import Any

from wsss.errors import WsssError, choose

METHODS = Path(__file__).parent.parent / "methods"
TYPES = ("typing", "typing_extensions", "wsss.settings")  # modules, and packages, whose imports are compiled
SECTION = "Section"  # the base of all sections
OWN = "Settings"  # how the name of a method's section begins


def names() -> list[str]:
    """Return the names of all methods, those with a settings file."""
    return sorted(path.stem for path in METHODS.glob("*.yaml"))


@functools.cache
def settings_of(method: str) -> Any:
    """Return the type of section ``method``: the class ``Settings...`` of the method's file.

    Raises:
        WsssError: the method is unknown, or its file declares no settings.
    """
    path = METHODS / f"{choose({name: name for name in names()}, method, 'method')}.py"
    module = f"wsss.methods.{method}"
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    tree.body = _types(tree.body)
    found: dict[str, Any] = {"__name__": module}
    exec(compile(tree, str(path), "exec", dont_inherit=True), found)
    for name, value in found.items():
        if name.startswith(OWN):
            return value
    raise WsssError(f"{path}: declares no settings; add a class {OWN}Of{method.title()}({SECTION})")


def _types(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Return the imports of types, and the sections, of a module."""
    kept: list[ast.stmt] = []
    known = {SECTION}
    for statement in statements:
        if isinstance(statement, ast.ImportFrom) and _is_of_types(statement.module or ""):
            kept.append(statement)
        if isinstance(statement, ast.ClassDef) and known & _bases(statement):
            kept.append(statement)
            known.add(statement.name)
    return kept


def _is_of_types(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in TYPES)


def _bases(statement: ast.ClassDef) -> set[str]:
    return {base.id for base in statement.bases if isinstance(base, ast.Name)}
