"""What differs today from when results were made: code, locked packages and settings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from wsss.provenance import code as code_state
from wsss.provenance.chain import Chain
from wsss.provenance.checks import about
from wsss.provenance.content import Content, hashes, is_settings, plain
from wsss.provenance.findings import Finding, clean, listed

LOCKED = code_state.LOCK.name  # the file of the locked packages
LONGEST_SETTING = 40  # characters of a value


def code(chain: Chain) -> Iterator[Finding]:
    """Yield code and locked packages that have changed since results were made."""
    changed: dict[str, list[str]] = {}
    package = code_state.package_digest()
    for link in chain.links.values():
        for name in _changed(link.content, package):
            changed.setdefault(name, []).append(link.key)
    together: dict[tuple[str, ...], list[str]] = {}
    for name, of in changed.items():
        together.setdefault(tuple(of), []).append(name)
    for readers, (first, *others) in together.items():
        finding = about(chain, "code", first, "has changed since", list(readers))
        finding.also, finding.today = tuple(others), True
        yield finding


def settings(chain: Chain, expected: Callable[[str], Any]) -> Iterator[Finding]:
    """Yield results whose settings are not those that the configuration and the papers say today.

    Args:
        chain: the records.
        expected: the settings of today, by the name of a config.yaml; None where there are none.
    """
    together: dict[tuple[str, ...], list[str]] = {}
    for link in chain.from_below():
        key = next(filter(is_settings, link.content["inputs"]), None)
        today = expected(key) if key and link.content["config"] is not None else None
        if today is not None:
            outside = hashes(link.content["external"]).items()
            told = any(chain.hasher.see(path).sha256 != sha for path, sha in outside)  # ``sources`` would repeat it
            then, now = (_compared(config, told) for config in (link.content["config"], plain(today)))
            changed = changes(then, now)
            if differences := tuple(clean(text) for text in changed):
                together.setdefault(differences, []).append(link.key)
    for differences, keys in together.items():
        firsts = [chain.links[key].first for key in keys]
        text = f"was made with other settings than today's: {listed(differences)}"
        finding = Finding("settings", firsts[0], text, chain.resting_on(keys), tuple(keys))
        finding.also, finding.today = tuple(firsts[1:]), True
        yield finding


def _compared(config: Content, sources_told: bool) -> Content:
    """Leave out digests of what is compared file by file: of the code, and of lists and labels whose change is told."""
    return {key: value for key, value in config.items() if key != "code" and not (sources_told and key == "sources")}


def changes(one: Any, other: Any, key: str = "") -> Iterator[str]:
    """Yield dotted keys and values of settings that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            yield from changes(one.get(name), other.get(name), f"{key}.{name}" if key else str(name))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (first, second) in enumerate(zip(one, other, strict=True), 1):
            yield from changes(first, second, f"{key}[{_label(first) or at}]")
    elif one != other:
        yield f"{key} {_shown(one)} and {_shown(other)}"


def _label(value: Any) -> str:
    """Return the words by which people know a row of a table."""
    return str(value.get("label", "")) if isinstance(value, dict) else ""


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    if len(text) <= LONGEST_SETTING:
        return text
    if isinstance(value, list | dict):
        return "1 entry" if len(value) == 1 else f"{len(value)} entries"
    return text[:LONGEST_SETTING]


def _changed(content: Content, package: str) -> list[str]:
    """Return files that a job ran, and that are not here as it ran them."""
    ran, lock = content["code"]["files"], content["code"]["lock"]
    try:
        now = code_state.files(content["command"], content["config"], package) if ran else {}
    except (AssertionError, KeyError, TypeError, ValueError, OSError, SyntaxError):
        return ["workflow/wsss"]
    names = [f"workflow/wsss/{file}" for file in {**ran, **now} if ran.get(file) != now.get(file)]
    here = hashlib.sha256(code_state.LOCK.read_bytes()).hexdigest() if code_state.LOCK.is_file() else None
    return [*names, LOCKED] if lock and here and lock != here else names
