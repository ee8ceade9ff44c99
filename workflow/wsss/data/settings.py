"""Options of the builders. A key that the builder does not read is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss.data import classes, splits
from wsss.errors import WsssError

Options = Mapping[str, Any]
# of all builders that read images: role -> split, and the size, in millions of pixels, above which an image is refused
SHARED: dict[str, Any] = {"splits": None, "megapixels": 8}


def known(config: Options, required: tuple[str, ...], optional: Options) -> dict[str, Any]:
    """Check the options of a data set and fill in the defaults.

    Args:
        config: the options as given.
        required: names of the options that must be given, besides ``builder`` and ``name``.
        optional: the other options and their defaults.

    Raises:
        WsssError: an option is unknown or missing.
    """
    required = ("builder", "name", *required)
    for key in config:
        if key not in required and key not in optional:
            choice = ", ".join(sorted({*required, *optional}))
            raise WsssError(f"data set '{config.get('name')}': unknown option '{key}': choose one of {choice}")
    missing = [key for key in required if config.get(key) is None]
    if missing:
        raise WsssError(f"data set '{config.get('name')}': option '{missing[0]}' is missing")
    return {**optional, **config}


def roles_of(settings: Options) -> Mapping[str, str]:
    """Return the split of each role: as given, or as in ``splits.ROLES``.

    Raises:
        WsssError: it is no table of names.
    """
    return _table(settings, "splits", "role: split", "the name of one split") if settings["splits"] else splits.ROLES


def megapixels_of(settings: Options) -> float:
    """Return the size of the largest image that is taken, in millions of pixels.

    Raises:
        WsssError: it is no positive number.
    """
    value = settings["megapixels"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise _unfit(settings, "megapixels", "a number of millions of pixels", value)
    return float(value)


def text_of(settings: Options, key: str) -> str:
    """Return an option that is a name or a path.

    Raises:
        WsssError: it is anything else.
    """
    value = settings[key]
    if not isinstance(value, str) or not value:
        raise _unfit(settings, key, "a name or a path", value)
    return value


def path_of(settings: Options, key: str) -> str | None:
    """Return an option that is a name or a path, or null.

    Raises:
        WsssError: it is anything else.
    """
    return text_of(settings, key) if settings[key] else None


def names_of(settings: Options, key: str) -> list[str]:
    """Return an option that is a list of names; none if it is null.

    Raises:
        WsssError: it is anything else, such as a word that YAML reads as a number or as true.
    """
    value = settings[key] or []
    if not isinstance(value, list):
        raise _unfit(settings, key, "a list of names", value)
    for name in value:
        if not isinstance(name, str):
            raise _unfit(settings, key, 'names, each a text (put it in quotes: "1", "yes", "null")', name)
    return [classes.clean(name) for name in value]


def lists_of(settings: Options) -> dict[str, str]:
    """Return the option ``lists``: split -> its list.

    Raises:
        WsssError: it is anything else.
    """
    example = "split: file, such as {train: train.txt, val: val.txt}"
    return _table(settings, "lists", example, "the name or path of one file")


def sets_of(settings: Options) -> dict[str, str]:
    """Return the option ``sets``: split -> set of images and its annotations.

    Raises:
        WsssError: it is anything else.
    """
    return _table(settings, "sets", "split: set, such as {train: train2014, val: val2014}", "the name of one set")


def _table(settings: Options, key: str, kind: str, kind_of_value: str) -> dict[str, str]:
    value = settings[key]
    if not isinstance(value, Mapping) or not value:
        raise _unfit(settings, key, kind, value)
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise _unfit(settings, f"{key}.{name}", kind_of_value, text)
    return dict(value)


def _unfit(settings: Options, key: str, kind: str, value: Any) -> WsssError:
    return WsssError(f"data set '{settings['name']}': option '{key}' must be {kind}, not {value!r}")
