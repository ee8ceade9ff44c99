"""One record per job, written beside what the job made.

A record says what the job read, ran and made. Before a job reads a file, the file is compared with the record of the
job that made it. What was read and what ran is looked at again when the job ends: a change in between is an error,
since no record could then tell the truth.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsss.errors import WsssError
from wsss.files import digest, sha256, write_text
from wsss.provenance import code, content, ledger
from wsss.provenance.machine import machine, packages, peak_memory
from wsss.provenance.place import Place, is_record, makers_of, record_path, root_of

NOT_MADE = ("config.yaml",)  # beside a result, but made by no job that has a record
NOT_COUNTED = (ledger.NAME, ".sig")  # suffixes of what accompanies a record
PATIENCE = "run it again"


@contextmanager
def recorded(
    command: str, inputs: Sequence[str], outputs: Sequence[str], config: content.Content | None, device: str
) -> Iterator[None]:
    """Run a job in the block and leave its record, if the block ends well.

    Args:
        command: name of the sub-command.
        inputs: files and folders the job reads.
        outputs: files and folders it makes; the record goes beside the first.
        config: its resolved settings.
        device: the device that was asked for.

    Raises:
        WsssError: an input is not what the record of its maker says; or inputs or code changed while the job ran.
    """
    job = _Job(command, inputs, outputs, config)
    with job.attempt():
        yield
        job.check_unchanged()
    job.write(device)


def made_by_another(
    command: str, inputs: Sequence[str], outputs: Sequence[str], config: content.Content | None
) -> bool:
    """Tell whether a record beside the first output says that the same job made what is there, from the same inputs."""
    path = record_path(outputs[0])
    try:
        found = content.parse_sealed(path.read_bytes())
    except (OSError, content.Broken):
        return False
    job = _Job(command, inputs, outputs, config)
    if (found["command"], found["config"], found["attempts"]["basis"]) != (command, job.config, job.basis):
        return False
    made = ((job.place.path(key), about["sha256"]) for key, about in found["outputs"].items())
    return all(file.is_file() and sha256(file) == digest for file, digest in made)


class _Job:
    """A job between its start and its record."""

    def __init__(
        self, command: str, inputs: Sequence[str], outputs: Sequence[str], config: content.Content | None
    ) -> None:
        self.started = datetime.now(UTC)
        self.command, self.outputs = command, outputs
        self.config = None if config is None else content.plain(config)
        self.place = Place.of(outputs[0])
        self.record = record_path(outputs[0])
        files = list(dict.fromkeys(path for given in inputs for path in fingerprint(given)))
        _refuse_own_inputs([*inputs, *files], outputs)
        self._refuse_record_of_another(outputs[0])
        self.ledger = ledger.ledger_path(self.record)
        self.read = _Read(self.place, files)
        self.stamps = code.stamps()
        self.code = code.state(command, self.config)
        self.basis = digest(json.dumps([self.read.entries, self.read.external, self.code["files"]], sort_keys=True))

    def _refuse_record_of_another(self, output: str) -> None:
        """Refuse a file whose record would overwrite that of another file, whose name differs only in the suffix."""
        if self.record.parent == Path(output):
            return
        try:
            found = content.parse_sealed(self.record.read_bytes())
        except (OSError, content.Broken):
            return
        others = [self.place.path(key) for key in found["outputs"] if key != self.place.key(output)]
        if there := [path for path in others if path.exists()]:
            raise WsssError(
                f"{self.record}: is the record of {there[0]}, which is still there; give --out a name that differs "
                "before its suffix"
            )

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Keep the ledger of a block, and tell the block's own processes where it is."""
        self.ledger.parent.mkdir(parents=True, exist_ok=True)
        ours = {ledger.LEDGER: str(self.ledger.absolute()), ledger.BASIS: self.basis}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        where = {name: os.environ[name] for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT") if name in os.environ}
        ledger.note("started", basis=self.basis, host=os.uname().nodename, commit=self.code["commit"], **where)
        try:
            yield
        except BaseException as error:
            ledger.note("ended", how=_how(error), why=str(error).partition("\n")[0][:200])
            raise
        else:
            ledger.note("ended", how="done")
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    def check_unchanged(self) -> None:
        """Look at inputs and code again."""
        self.read.check_unchanged(self.command)
        if code.stamps() == self.stamps:
            return
        now = code.files_again(self.command, self.config)
        changed = [file for file in {**self.code["files"], **now} if self.code["files"].get(file) != now.get(file)]
        if changed:
            raise WsssError(
                f"{changed[0]}: was changed while '{self.command}' ran, so its result cannot be traced to one version; "
                f"{PATIENCE}"
            )

    def write(self, device: str) -> None:
        """Write the record."""
        ended = datetime.now(UTC)
        results = root_of(self.outputs[0])
        made = [path for output in self.outputs for path in files_made(output)]
        found: content.Content = {
            "version": content.VERSION,
            "self": self._key(self.record),
            "results": results.as_posix(),
            "command": self.command,
            "argv": sys.argv[1:],
            "config": self.config,
            "seed": _seed(self.config),
            "supervision": supervision(self.command, self.config),
            "inputs": self.read.entries,
            "external": self.read.external,
            "roots": image_roots(made) if self.command == "index" else [],
            "outputs": {self._key(path): entry(path) for path in made},
            "parents": self.read.parents,
            "code": self.code,
            "packages": packages(),
            "machine": machine(device),
            "attempts": self._attempts(),
            "started": _time(self.started),
            "ended": _time(ended),
            "seconds": round((ended - self.started).total_seconds(), 2),
            "peak_memory_mib": peak_memory(),
        }
        found["identity"] = content.identity(found)
        found["seal"] = content.seal(found)
        write_text(self.record, content.text_of(found))

    def _key(self, path: str | Path) -> str:
        key = self.place.key(path)
        if key is None:
            raise WsssError(f"{path}: lies outside {self.place.root}, where the other outputs of this job are")
        return key

    def _attempts(self) -> content.Content:
        data = self.ledger.read_bytes()
        return {
            "number": sum(b'"event": "started"' in line for line in data.splitlines()),
            "basis": self.basis,
            "ledger_bytes": len(data),
            "ledger_sha256": hashlib.sha256(data).hexdigest(),
        }


def _refuse_own_inputs(inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Refuse an output in the place of what the job reads."""
    made = {os.path.realpath(path) for path in outputs}
    for path in inputs:
        if os.path.realpath(path) in made:
            raise WsssError(f"{path}: is read by this job, which would write over it; give --out another name")


class _Read:
    """The input files of a job: their digests, and who made them."""

    def __init__(self, place: Place, files: Iterable[str]):
        self.place = place
        self.entries: dict[str, content.Content] = {}
        self.external: dict[str, content.Content] = {}
        self.parents: dict[str, str] = {}
        self._stamps: dict[str, tuple[tuple[int, ...], str]] = {}
        self._records: dict[str, content.Content | None] = {}
        for path in files:
            stamp, key = _stamp(path), place.key(path)
            found = entry(path) if key else _outside(path)
            self._stamps[path] = stamp, found["sha256"]
            if key is None:
                self.external[os.path.abspath(path)] = found
            else:
                self._take(key, path, found)

    def _take(self, key: str, path: str, found: content.Content) -> None:
        self.entries[key] = found
        for name in makers_of(key):
            maker = self._maker(name)
            if maker is None or (key != name and key not in maker["outputs"]):
                continue
            if key != name and maker["outputs"][key]["sha256"] != found["sha256"]:
                raise WsssError(
                    f"{path}: is not what '{maker['command']}' made there, as {self.place.path(name)} says; "
                    f"delete it and {self.place.path(name).name} and make it again, or run "
                    f"`wsss audit {shlex.quote(path)} --mend`, which sets both aside"
                )
            self.parents[key] = maker["identity"]
            return

    def _maker(self, name: str) -> content.Content | None:
        """Return a record, read once; None where there is none."""
        if name not in self._records:
            path = self.place.path(name)
            try:
                self._records[name] = content.parse_sealed(path.read_bytes()) if path.is_file() else None
            except content.Broken as error:
                raise WsssError(f"{path}: {error}; delete it, and make the result that it describes again") from None
        return self._records[name]

    def check_unchanged(self, command: str) -> None:
        """Compare every input with what it was when the job started; only what was touched is read again."""
        for path, (stamp, expected) in self._stamps.items():
            if _stamp(path) != stamp and not (Path(path).is_file() and sha256(path) == expected):
                raise WsssError(f"{path}: was changed while '{command}' read it; {PATIENCE}")


def fingerprint(path: str | Path) -> list[str]:
    """Return the files that stand for ``path`` in a record.

    A folder counts file by file, without records, settings, ledgers and hidden working files. The folder of a data set
    is fixed by its index, which lists every image and mask with its digest.
    """
    path = Path(path)
    if not path.is_dir():
        return [str(path)]
    if (path / "index.csv").is_file():
        return [str(path / "dataset.json"), str(path / "index.csv")]
    found = (inner for inner in path.rglob("*") if inner.is_file())
    return sorted(str(inner) for inner in found if _counts(inner))


def files_made(path: str | Path) -> list[str]:
    """Return the files that a job made at ``path``.

    These are the files of :func:`fingerprint`. For a data set that was drawn or put together in its folder, the lists
    and label tables beside the images are added.
    """
    found, index = fingerprint(path), Path(path, "index.csv")
    if not index.is_file():
        return found
    from wsss.provenance.images import listed, root_of_images

    root = os.path.realpath(root_of_images(index))
    known = {os.path.normpath(os.path.join(root, name)) for name, _ in listed(index.read_bytes())}
    beside: list[str] = []
    for folder, inner, names in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(".") and not Path(folder, name, "index.csv").exists()]
        real = os.path.realpath(folder)
        new = (name for name in names if os.path.join(real, name) not in known)
        files = [os.path.join(folder, name) for name in new]
        beside += [file for file in files if file not in found and _counts(Path(file)) and not os.path.islink(file)]
    return [*found, *sorted(beside)]


def _counts(path: Path) -> bool:
    accompanies = is_record(path) or path.name in NOT_MADE or path.name.endswith(NOT_COUNTED)
    return not (accompanies or path.name.startswith(".") or path.name == "checkpoint.pt")


def entry(path: str | Path) -> content.Content:
    """Return the digest and the size of a file."""
    return {"sha256": sha256(path), "size": Path(path).stat().st_size}


def _outside(path: str) -> content.Content:
    """Return digest and size of a file outside the results; of a link also the real path."""
    real = os.path.realpath(path)
    led = {"real": real} if real != os.path.abspath(path) else {}
    return {**entry(path), **led}


def image_roots(outputs: Iterable[str]) -> list[str]:
    """Return the real folders of those listed images that links put outside the folder of the data set."""
    from wsss.provenance.images import listed, root_of_images

    found: set[str] = set()
    for path in outputs:
        if Path(path).name != "index.csv":
            continue
        root = os.path.realpath(root_of_images(Path(path)))
        for image, _ in listed(Path(path).read_bytes()):
            real = os.path.realpath(os.path.join(root, image))
            if not real.startswith(root + "/"):
                found.add(os.path.dirname(real))
    return sorted(found)


def supervision(command: str, config: content.Content | None) -> list[str]:
    """Return the labels and masks that a job learns from or measures with, in words."""
    config = config or {}
    if command == "train":
        best = config.get("train", {}).get("select") == "best"
        chosen = ["masks of the measured images: the epoch was chosen on them (training.json)"]
        return ["image-level labels of the training images", *(chosen if best else [])]
    if command == "deeplab" and config.get("deeplab", {}).get("labels") == "ground_truth":
        return ["masks of the training images"]
    if command == "cam":
        return ["image-level labels of the images worked on"]
    if command == "measure":
        return ["masks of the measured images", "thresholds marked selected_on: chosen on these masks"]
    return []


def _seed(config: content.Content | None) -> int | None:
    seed: Any = (config or {}).get("seed")
    return seed if isinstance(seed, int) else None


def _how(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "stopped" if getattr(error, "exit_code", None) == 143 else "failed"


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
