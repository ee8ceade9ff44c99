"""Options of the builders. A key that the builder does not read is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss.errors import WsssError

Options = Mapping[str, Any]


def known(config: Options, required: tuple[str, ...], optional: Options) -> dict[str, Any]:
    """Check the options of a data set and fill in the defaults.

    Args:
        config: the options as given.
        required: names of the options that must be given, beside ``builder`` and ``name``.
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
