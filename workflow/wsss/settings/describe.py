"""Say in words which values a type takes."""

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from typing_extensions import get_type_hints, is_typeddict

NAMES = {
    bool: ["true", "false"],
    int: ["a whole number"],
    float: ["a number"],
    str: ["a text"],
    dict: ["a mapping"],
    type(None): ["null"],
}


def keys_of(kind: Any) -> Mapping[str, Any]:
    """Return the keys of a section and their types; none for what is no section."""
    for alternative in _alternatives(kind):
        if is_typeddict(alternative):
            return get_type_hints(alternative, include_extras=True)
    return {}


def describe(kind: Any) -> str:
    """Say which values to give: ``choose one of ...`` or ``give ...``."""
    alternatives = _alternatives(kind)
    if all(get_origin(alternative) is Literal for alternative in alternatives):
        return one_of(shown(value, quoted=False) for choice in alternatives for value in get_args(choice))
    return f"give {_either([words for alternative in alternatives for words in _words(alternative)])}"


def one_of(choices: Iterable[str]) -> str:
    """Write the choices as an instruction."""
    return f"choose one of {', '.join(choices)}"


def shown(value: Any, quoted: bool = True) -> str:
    """Write a value as YAML has it: texts in quotes, unless they are not to be ``quoted``."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return f"'{value}'" if quoted and isinstance(value, str) else str(value)


def _alternatives(kind: Any) -> list[Any]:
    """List the types that a union admits, or the one type itself. The mark of an optional key is taken off."""
    if get_origin(kind) in (NotRequired, Required):
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return [inner for alternative in get_args(kind) for inner in _alternatives(alternative)]
    return [kind]


def _words(kind: Any) -> list[str]:
    """List the values of one alternative in words."""
    if get_origin(kind) is Annotated:
        inner, *rules = get_args(kind)
        texts = [rule.description for rule in rules if isinstance(rule, FieldInfo) and rule.description]
        return texts or _words(inner)
    if get_origin(kind) is Literal:
        return [shown(value, quoted=False) for value in get_args(kind)]
    if get_origin(kind) is list:
        return [f"a list with some of {', '.join(_words(get_args(kind)[0]))}"]
    if is_typeddict(kind):
        return [f"a mapping with {', '.join(keys_of(kind))}"]
    return NAMES[get_origin(kind) or kind]


def _either(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
