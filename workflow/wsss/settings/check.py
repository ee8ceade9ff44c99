"""Check settings against their types, and say of each wrong value what to give instead."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict, get_type_hints

from wsss.settings import methods
from wsss.settings.describe import describe, keys_of, one_of, shown
from wsss.settings.sections import Sections, Settings

Path = tuple[str, ...]


class Finding(NamedTuple):
    """A wrong value: the keys that lead to it, and what is wrong with it."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} {self.message}"


def check(config: Mapping[str, Any]) -> list[Finding]:
    """List what is wrong with resolved settings: of a whole run, or of one stage.

    Args:
        config: name of a section -> the section, complete. The type of section ``method`` is that of the method which
            its key ``name`` names. Of a stage also ``seed``, ``stage``, ``code`` and ``dataset``.
    """
    method = config["method"].get("name") if isinstance(config.get("method"), dict) else None
    if "method" in config and method not in methods.names():
        return [Finding(("method", "name"), f"is {shown(method)}: {one_of(methods.names())}")]
    sections = {key: value for key, value in config.items() if key != "method"}
    own = {key: value for key, value in config.items() if key == "method"}
    wrong = [*_wrong(_method(method), own), *_wrong(_sections(), sections)]
    kind = run_of(method, base=Settings)
    paths = dict.fromkeys(_path(place, kind) for place in wrong)
    return [Finding(path, _message(path, config, kind)) for path in paths]


@functools.cache
def run_of(*known: str | None, base: Any = Sections) -> Any:
    """Make the type of a run: all sections, where section ``method`` is that of one of the ``known`` methods.

    With :class:`Settings` as ``base``, the type also fits the settings of a single stage.
    """
    sections = get_type_hints(base, include_extras=True)
    own = [methods.settings_of(name) for name in known if name]
    sections["method"] = functools.reduce(lambda one, other: one | other, own) if own else dict[str, Any]
    run: Any = TypedDict("Run", sections, total=False)  # type: ignore[misc]  # a type made at run time
    return with_config(ConfigDict(extra="forbid", strict=True))(run)


def _wrong(adapter: TypeAdapter[Any], value: Any) -> list[tuple[str | int, ...]]:
    """List the places of a value that are not of its type."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        return [details["loc"] for details in error.errors()]
    return []


@functools.cache
def _sections() -> TypeAdapter[Any]:
    """Return the check of all sections, which is the same for all methods but for section ``method``."""
    return TypeAdapter(run_of(None, base=Settings))


@functools.cache
def _method(name: str | None) -> TypeAdapter[Any]:
    """Return the check of section ``method``."""
    kinds = get_type_hints(run_of(name), include_extras=True)
    own: Any = TypedDict("Own", {key: kind for key, kind in kinds.items() if key == "method"}, total=False)  # type: ignore[misc]
    return TypeAdapter(own)


def _path(location: Iterable[str | int], kind: Any) -> Path:
    """List the keys of a location, down to the setting. Places in a list and names of alternatives are dropped."""
    path: list[str] = []
    for step in location:
        if not (keys := keys_of(kind)):
            break
        path.append(str(step))
        kind = keys.get(str(step))
    return tuple(path)


def _message(path: Path, config: Any, kind: Any) -> str:
    """Say how the value at ``path`` is wrong."""
    *above, key = path
    for step in above:
        config, kind = config[step], keys_of(kind)[step]
    known = keys_of(kind)
    if key not in known:
        return f"is an unknown key: {one_of(known)}"
    if key not in config:
        return f"is missing: {describe(known[key])}"
    return f"is {shown(config[key])}: {describe(known[key])}"
