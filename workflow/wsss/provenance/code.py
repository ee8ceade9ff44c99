"""The state of the code: what a job runs, the commit it is of, and how it differs from that commit."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from wsss.files import digest, sha256, write_text
from wsss.provenance.content import Content
from wsss.provenance.hashes import cache_folder
from wsss.stages import STAGES

PACKAGE = Path(__file__).parent.parent
REPOSITORY = PACKAGE.parent.parent
LOCK = REPOSITORY / "uv.lock"
SOURCES = ("workflow", "Snakefile", "config.yaml", "pyproject.toml", "uv.lock")  # whose changes make a tree dirty
SUFFIXES = (".py", ".yaml", ".json", ".j2")
LONGEST_PATCH = 64 * 1024  # characters
DRAWN = {
    "table": "wsss.report.tables:write_table",
    "figure": "wsss.report.figures:draw_figure",
    "judge": "wsss.report.claims:write_claims",
    "page": "wsss.report.page:write_page",
}
NOT_OF_THE_CODE = ("stage", "code", "dataset", "seed")  # keys of a stage's settings that choose no code


def state(command: str, config: Content | None) -> Content:
    """Return the code of a job as it is now.

    Args:
        command: the job's command.
        config: its settings, which name the method, networks and so on.
    """
    package = package_digest()
    return {
        **_of_repository(),
        "package": package,
        "files": files(command, config, package),
        "lock": sha256(LOCK) if LOCK.is_file() else None,
    }


def files(command: str, config: Content | None, package: str | None = None) -> dict[str, str]:
    """Return the files that a job runs, with the digest of what counts in each; none for a command that has no digest.

    They follow from the sources of the package and the names in the settings. So they are kept in the user's cache
    under the digest of both: to parse the package takes longer than many a job.

    Args:
        command: the job's command.
        config: its settings.
        package: the digest of the package's sources, if it is known.
    """
    entries, settings = entry_points(command), settings_of(command, config)
    if not entries:
        return {}
    from wsss.plan import code as plan_code  # where it cannot be imported, an audit does not compare code

    names = sorted(set(plan_code.names_in(settings)))
    key = digest(json.dumps([package or package_digest(), sys.version_info[:2], entries, names]))
    kept = cache_folder() / "code" / f"{key}.json"
    try:
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, RuntimeError):
        pass
    found = dict(plan_code.files_of(entries, settings))
    with contextlib.suppress(OSError, RuntimeError):
        write_text(kept, json.dumps(found))
    return found


def files_again(command: str, config: Content | None) -> dict[str, str]:
    """Find the files of a job as :func:`files` does, but read them anew."""
    from wsss.plan import code as plan_code

    for function in (plan_code._files_of, plan_code._read, plan_code._registered):
        function.cache_clear()
    return files(command, config)


def entry_points(command: str) -> list[str]:
    """Return the functions that a job calls, as ``module:function``."""
    from wsss.plan import code as plan_code

    if command in STAGES:
        return plan_code.entry_points(STAGES[command])
    return [DRAWN[command]] if command in DRAWN else []


def settings_of(command: str, config: Content | None) -> Any:
    """Return the part of a job's settings that chooses code: what the digest in them was made of."""
    left_out: tuple[str, ...] = NOT_OF_THE_CODE
    if command == "index":
        left_out = ("stage", "code")
    elif command in DRAWN:
        left_out = ("code",)
    return {key: value for key, value in (config or {}).items() if key not in left_out}


def digest_of(found: dict[str, str]) -> str:
    """Return the digest of files as settings have it under ``code``."""
    return digest("".join(f"{file} {found[file]}\n" for file in found))


def stamps() -> tuple[tuple[str, int, int, int, int], ...]:
    """Return path, size, times and inode of all sources of the package: where these are equal, so are the sources."""
    found = []
    for folder, _, names in os.walk(PACKAGE):
        for path in (os.path.join(folder, name) for name in names if name.endswith(SUFFIXES)):
            seen = os.stat(path)
            found.append((path, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino))
    return tuple(sorted(found))


def package_digest() -> str:
    """Return the digest of all sources of the package. It needs no repository."""
    return _package_digest(stamps())


@functools.cache
def _package_digest(sources: tuple[tuple[str, int, int, int, int], ...]) -> str:
    paths = [Path(path) for path, *_ in sources]
    return digest("".join(f"{path.relative_to(PACKAGE).as_posix()} {sha256(path)}\n" for path in paths))


def _of_repository() -> Content:
    """Return commit and changes of the repository that tracks the package, and of no other one around it."""
    unknown: Content = {"commit": None, "dirty": None, "patch": None, "patch_sha256": None, "untracked": {}}
    if git("ls-files", "--error-unmatch", "--", str(PACKAGE / "__init__.py")) is None:
        return unknown
    status = git("status", "--porcelain=v2", "--branch", "--untracked-files=all", "-z", "--", *SOURCES)
    if status is None:
        return unknown
    lines = [line for line in status.split("\0") if line]
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    changes = [line for line in lines if not line.startswith("#")]
    patch = git("diff", "HEAD", "--", *SOURCES) if changes else ""
    new = [line.removeprefix("? ") for line in changes if line.startswith("? ")]
    return {
        "commit": None if commit == "(initial)" else commit,
        "dirty": bool(changes),
        "patch": patch if patch is not None and len(patch) <= LONGEST_PATCH else None,
        "patch_sha256": digest(patch) if patch else None,
        "untracked": {name: sha256(REPOSITORY / name) for name in sorted(new) if (REPOSITORY / name).is_file()},
    }


def git(*arguments: str) -> str | None:
    """Return the answer of git about the sources; None where it gives none."""
    command = ["git", "-C", str(REPOSITORY), "--no-optional-locks", *arguments]
    try:
        result = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.decode("utf-8", "replace").strip("\n")
