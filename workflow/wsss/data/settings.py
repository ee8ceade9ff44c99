"""Settings of the builders: a key that no builder reads is an error."""

from __future__ import annotations

from wsss.errors import WsssError


def known(config: dict, required: tuple[str, ...], optional: dict) -> dict:
    """The settings, defaults filled in. ``builder`` and ``name`` belong to every data set."""
    required = ("builder", "name", *required)
    for key in config:
        if key not in required and key not in optional:
            choice = ", ".join(sorted({*required, *optional}))
            raise WsssError(f"data set '{config.get('name')}': unknown option '{key}': choose one of {choice}")
    missing = [key for key in required if config.get(key) is None]
    if missing:
        raise WsssError(f"data set '{config.get('name')}': option '{missing[0]}' is missing")
    return {**optional, **config}
