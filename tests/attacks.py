"""Attacks on a finished run: a copy is harmed in every known way, and each harm has to be found and named.

    python tests/attacks.py results/shapes/report --flips 200

It prints a table: what was done, how often, how often it was found and named, and one finding as an example. What was
not found is counted and named below it. The results themselves are only read.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

from provenance_files import DAMAGES, flip, read, rewrite
from test_provenance_malformed import EDITS, HOSTILE

from wsss.provenance import content
from wsss.provenance.anchor import sign, verify
from wsss.provenance.audit import Audit, audit
from wsss.provenance.chain import Link
from wsss.provenance.describe import describe
from wsss.provenance.findings import Finding
from wsss.provenance.images import listed, root_of_images
from wsss.provenance.place import is_record

SKIPPED = ("aside",)  # folders of the results that are no results
GROWING = "attempts.jsonl"  # a ledger may grow
FORBIDDEN = {"/etc/passwd", "/dev/zero", "/dev/tty", "/proc/kmsg", "/tmp"}  # what hostile records name
OPENED: set[str] = set()  # by this process


@dataclass
class Tried:
    """The outcome of one kind of attack."""

    what: str
    number: int = 0
    found: int = 0
    example: str = ""
    missed: list[str] = field(default_factory=list)


@dataclass
class Run:
    """A copy of a finished run that may be harmed.

    Args:
        root: the results.
        target: what is audited.
        images: the folder of the images, if it lies outside of the results.
    """

    root: Path
    target: Path
    images: Path | None = None
    outcome: dict[str, Tried] = field(default_factory=dict)

    def audit(self, **more: object) -> Audit:
        return audit(more.pop("target", self.target), **{"code": False, "images_folder": self.images, **more})  # type: ignore[arg-type]

    def links(self) -> list[Link]:
        return list(self.audit().chain.links.values())

    def first(self, command: str) -> Link:
        return next(link for link in self.links() if link.command == command)

    def path(self, key: str) -> Path:
        return self.root / key

    def files(self) -> list[str]:
        """Name all files of the run: results, records, ledgers, settings, images, masks, lists, logs that it shows."""
        shown = {key for link in self.links() for key in link.content["inputs"]}
        paths = (path.relative_to(self.root) for path in sorted(self.root.rglob("*")) if path.is_file())
        names = [path.as_posix() for path in paths if path.parts[0] not in SKIPPED and len(path.parts) > 1]
        return [name for name in names if not name.startswith("logs/") or name in shown]

    def look(self, what: str, named: str, **more: object) -> Audit:
        """Audit the harmed run; the harm counts as found if a finding names what it was done to."""
        found = self.audit(**more)
        describe(found, full=True)
        self.note(what, named, found.findings)
        return found

    def note(self, what: str, named: str, findings: list[Finding]) -> None:
        tried = self.outcome.setdefault(what, Tried(what))
        lines = [finding.line(full=True) for finding in findings]
        hit = next((line for line in lines if named in line), None)
        tried.number += 1
        tried.found += hit is not None
        tried.example = tried.example or (hit or "")
        if hit is None or FORBIDDEN & OPENED:
            tried.missed.append(f"{named} {FORBIDDEN & OPENED or ''}")
        OPENED.clear()

    def clean(self, what: str, found: Audit) -> None:
        """Note whether what has to be clean is clean, such as a copy that nobody harmed."""
        tried = self.outcome.setdefault(what, Tried(what, example="clean"))
        tried.number += 1
        tried.found += not found.findings
        tried.missed += [finding.line() for finding in found.findings]

    @contextmanager
    def kept(self, *names: str) -> Iterator[None]:
        """Give files back their bytes and times after the block."""
        before = {self.path(name): (self.path(name).read_bytes(), self.path(name).stat()) for name in names}
        try:
            yield
        finally:
            for path, (data, times) in before.items():
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                elif os.path.lexists(path):
                    path.unlink()
                path.write_bytes(data)
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextmanager
def copy_of(target: Path) -> Iterator[Run]:
    """Copy the results that a target belongs to, and its images, if they lie elsewhere."""
    root = audit(target, code=False).chain.place.root
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, root.name)
        shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns(*SKIPPED))
        run = Run(copy, copy / Path(os.path.abspath(target)).relative_to(root))
        images = root_of_images(run.path(index_of(run).first))
        if not images.resolve().is_relative_to(copy.resolve()):
            run.images = Path(folder, "images")
            shutil.copytree(images, run.images)
        yield run


def index_of(run: Run) -> Link:
    """Return the job that made the index of a run's images."""
    return next(link for link in run.links() if link.command == "index")


ATTACKS: list[Callable[[Run], None]] = []


def attack(function: Callable[[Run], None]) -> Callable[[Run], None]:
    ATTACKS.append(function)
    return function


def kinds_of_files(run: Run) -> list[str]:
    """Choose one file of each kind: by its stage and the ending of its name, whatever its number."""
    chosen: dict[tuple[str, ...], str] = {}
    for name in run.files():
        parts = name.split("/")
        stage = next((part for part in parts[-3:-1] if not part.startswith("seed")), "")
        ending = parts[-1] if "-of-" not in parts[-1] else parts[-1].partition("-")[2]
        ending = ending if len(parts) < 5 or parts[1] != "data" else Path(ending).suffix
        chosen.setdefault(
            (parts[1] if parts[1] in ("tables", "figures", "data", "report") else parts[-2], stage, ending), name
        )
    return list(chosen.values())


@attack
def damaged_files(run: Run) -> None:
    for name in kinds_of_files(run):
        for harm, function in DAMAGES.items():
            if (harm == "append" and name.endswith(GROWING)) or (harm == "delete" and name == own_record(run)):
                continue
            with run.kept(name):
                function(run.path(name))
                run.look(f"{harm}: one file of each kind", name)


@attack
def damaged_and_touched(run: Run) -> None:
    """Give all files the time of now, as ``snakemake --touch`` does, the harmed one as well."""
    now = time.time()
    for name in run.files():
        os.utime(run.path(name), (now, now), follow_symlinks=False)
    run.clean("all files touched", run.audit())
    for name in kinds_of_files(run):
        if not name.endswith(GROWING):
            with run.kept(name):
                DAMAGES["append"](run.path(name))
                os.utime(run.path(name), (now, now))
                run.look("append, then touched like all others", name)


def own_record(run: Run) -> str:
    return run.audit().start


@attack
def siblings(run: Run) -> None:
    """Replace files and records by those of another run with the same name."""
    by_name: dict[tuple[str, ...], list[str]] = {}
    for link in run.links():
        for name in [link.first, link.key]:
            parts = name.split("/")
            by_name.setdefault(tuple(parts[-2:] if len(parts) > 5 else [parts[1], parts[-1]]), []).append(name)
    for names in by_name.values():
        for one, other in pairwise(names):
            if run.path(one).read_bytes() != run.path(other).read_bytes():
                with run.kept(other):
                    shutil.copy(run.path(one), run.path(other))
                    what = "the record of another run" if is_record(one) else "the file of a sibling"
                    run.look(what, other)


@attack
def edited_records(run: Run) -> None:
    """Edit records as a forger does, with right identities and seals."""
    root = run.audit().root
    for link in run.links():
        record = run.path(link.key)
        if link.content["parents"]:
            with run.kept(link.key):
                rewrite(record, parents={})
                run.look("a record without parents", link.first)
        with run.kept(link.key):
            name = f"{link.key.rpartition('/')[0]}/planted.record.json"
            shutil.copy(record, run.path(name))
            rewrite(run.path(name), self=name)
            run.look("a planted record beside", name)
            run.path(name).unlink()
        forged = {
            "commit": {"code": {**link.content["code"], "commit": "0" * 40}},
            "seed": {"seed": 99},
            "packages": {"packages": {"torch": "0.1"}},
            "device": {"machine": {**link.content["machine"], "device": "cuda"}},
        }
        for part, edit in forged.items():
            with run.kept(link.key):
                rewrite(record, **edit)
                named = "is not the expected one"
                run.look(f"the {part} in a record, sealed anew, --expect", named, expect=root)


@attack
def unlisted(run: Run) -> None:
    for link in run.links():
        if link.command in ("table", "figure"):
            name = f"{link.key.rpartition('/')[0]}/more.tex"
            run.path(name).write_text("99.00")
            run.look("a target that its record does not list", name, target=run.path(name))
            run.path(name).unlink()


def entry(path: Path) -> dict[str, object]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}


def rehash(run: Run) -> None:
    """Write every record anew, as the files are now, from the images up."""
    identities: dict[str, str] = {}
    for link in run.audit().chain.from_below():
        path = run.path(link.key)
        found = read(path)
        for part in ("inputs", "outputs"):
            found[part] = {key: entry(run.path(key)) for key in found[part]}
        found["parents"] = {key: identities[key] for key in found["parents"]}
        rewrite(path, **found)
        identities |= dict.fromkeys([*found["outputs"], link.key], read(path)["identity"])


@attack
def consistent_edits(run: Run) -> None:
    """Edit a number, or append to masks, and write new digests all the way up."""
    links = run.links()
    records = [link.key for link in links]
    before = run.audit()
    for link in links:
        for name in link.content["outputs"]:
            number = number_in(run, link, name)
            if number is None:
                continue
            with run.kept(name, *records):
                text = run.path(name).read_text()
                run.path(name).write_text(text.replace(number, "9" + number[1:], 1))
                rehash(run)
                what = f"a number in {name.rpartition('.')[2]} of '{link.command}', digests new all the way up"
                run.look(what, name)
                run.look("the same, --expect", "is not the expected one", expect=before.root)
    masks = next(
        (name for link in links if link.command in ("crf", "walk", "predict") for name in link.content["outputs"]), None
    )
    if masks:
        with run.kept(masks, *records):
            DAMAGES["append"](run.path(masks))
            rehash(run)
            run.look("masks, digests new all the way up, --expect", "is not the expected one", expect=before.root)


def number_in(run: Run, link: Link, name: str) -> str | None:
    """Return a number that a person would edit, as it is written there; None for a file without."""
    if link.command == "measure":
        point = next(iter(json.loads(run.path(name).read_text())["points"].values()))
        return repr(point["miou"])
    if link.command != "table" or not name.endswith((".csv", ".html", ".md", ".tex")):
        return None
    with run.path(f"{link.key.rpartition('/')[0]}/table.csv").open(encoding="utf-8", newline="") as stream:
        ours = next(row["ours"] for row in csv.DictReader(stream) if row["ours"])
    text = run.path(name).read_text()
    return next(shown for shown in (ours, f"{float(ours):.2f}", f"{float(ours):.1f}") if shown in text)


@attack
def images(run: Run) -> None:
    index = index_of(run)
    path = run.path(index.first)
    root = (run.images or root_of_images(path)).resolve()
    names = [name for name, _ in listed(path.read_bytes()) if "JPEG" in name][:2]
    images = [str(root / name) for name in names]  # a path below the results takes them as they are
    with run.kept(*images):
        one, other = (Path(image).read_bytes() for image in images)
        Path(images[0]).write_bytes(other)
        Path(images[1]).write_bytes(one)
        for name in names:
            run.look("two images swapped", name)
    text = path.read_text().splitlines()
    swapped = [text[0], *reversed(text[1:3]), *text[3:]]
    with run.kept(index.first):
        path.write_text("\n".join([*swapped, ""]))
        run.look("two lines of the index swapped", index.first)


@attack
def moved(run: Run) -> None:
    """Copy the folder, edit the copy, and audit it from elsewhere."""
    relative = run.target.relative_to(run.root)
    table = next((link.first for link in run.links() if link.command == "table"), None)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "moved")
        shutil.copytree(run.root, copy, symlinks=True)
        run.clean("a copy elsewhere, nothing done to it", run.audit(target=copy / relative, expect=run.audit().root))
        if table:
            with Run(copy, run.target).kept(table):
                (copy / table).write_text((copy / table).read_text().replace("5", "9", 1))
                run.look("a copy elsewhere, a number edited there", table, target=copy / table)
        if run.images:
            return
        images = root_of_images(run.path(run.first("index").first)).resolve()
        shutil.rmtree(copy / images.relative_to(run.root.resolve()))
        run.look("a copy elsewhere without its images", "name it with --images", target=copy / relative)
        run.clean("the same with --images", run.audit(target=copy / relative, images_folder=images))


@attack
def malformed(run: Run) -> None:
    """Put what is no record in the place of records: below the target, and of the target itself."""
    links = run.links()
    below = next(link.key for link in links if link.command == "cam")
    own = own_record(run)
    for harm in EDITS.values():
        for key in (below, own):
            with run.kept(key):
                harm(run.path(key))
                run.look(f"{len(EDITS)} malformed records, {'of the target' if key == own else 'below'}", key)
    root = run.audit().root
    for harm in HOSTILE.values():
        with run.kept(below):
            rewrite(run.path(below), **harm)
            run.look("a hostile record with right digests, --expect", "is not the expected one", expect=root)


@attack
def no_files(run: Run) -> None:
    """Put a pipe, a folder, a device, a link to another file in the place of a result."""
    name = next(link.first for link in run.links() if link.command == "train")
    places = {
        "a pipe": os.mkfifo,
        "a folder": Path.mkdir,
        "a device": lambda path: path.symlink_to("/dev/zero"),
        "a link to /etc/passwd": lambda path: path.symlink_to("/etc/passwd"),
        "a link to nothing": lambda path: path.symlink_to("nowhere"),
        "a link to itself": lambda path: path.symlink_to(path.name),
    }
    for key in (name, run.first("cam").key):
        for what, put in places.items():
            with run.kept(key):
                run.path(key).unlink()
                put(run.path(key))
                run.look(f"{what} in the place of a file", key)


@attack
def signatures(run: Run) -> None:
    if shutil.which("ssh-keygen") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        key, signers = Path(folder, "key"), Path(folder, "signers")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        signers.write_text("auditor@example.org " + key.with_suffix(".pub").read_text())
        signature = sign(run.audit(), key)
        for link in run.links():
            with run.kept(link.key):
                rewrite(run.path(link.key), seconds=0.01)
                run.note(
                    "an edit of any record, sealed anew, --signers",
                    "signature does not hold",
                    verify(run.audit(), signers)[1],
                )
        data = bytearray(signature.read_bytes())
        data[len(data) // 2] ^= 1
        signature.write_bytes(data)
        run.note("a flip in the signature", "signature does not hold", verify(run.audit(), signers)[1])
        signature.unlink()
        run.note("no signature, --signers", "nobody has signed", verify(run.audit(), signers)[1])


def random_flips(run: Run, number: int, seed: int) -> None:
    """Turn random bits, half of them in any file, half in a file of any ending: few files are not images."""
    draw, root, files = random.Random(seed), run.audit().root, run.files()
    by_suffix: dict[str, list[str]] = {}
    for name in files:
        by_suffix.setdefault((content.is_settings(name) and "config") or Path(name).suffix, []).append(name)
    for at in range(number):
        name = draw.choice(files) if at % 2 else draw.choice(by_suffix[draw.choice(sorted(by_suffix))])
        size = run.path(name).stat().st_size
        with run.kept(name):
            flip(run.path(name), draw.randrange(size), draw.randrange(8))
            run.look(f"random flips over {len(files)} files, --expect", name, expect=root)


def run_all(run: Run, attacks: Sequence[Callable[[Run], None]], said: Callable[[str], None]) -> None:
    """Try attacks on a copy and say what came of each; after each the copy has to be clean."""
    told: set[str] = set()
    for function in attacks:
        function(run)
        for tried in run.outcome.values():
            if tried.what not in told:
                example = tried.example.replace("|", "\\|")[:160]
                said(f"| {tried.what} | {tried.number} | {tried.found} | {example} |")
        told |= set(run.outcome)
        if findings := run.audit().findings:
            raise SystemExit(f"{function} left something: {findings[0].line()}")


def _remember(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        OPENED.add(arguments[0])


def main() -> None:
    sys.addaudithook(_remember)
    names = [function.__name__ for function in ATTACKS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="a finished target that rests on all that was made, as results/shapes/report")
    parser.add_argument("--only", nargs="*", default=names, choices=names, help="some attacks alone")
    parser.add_argument("--flips", type=int, default=200, help="random ones (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the random flips")
    args = parser.parse_args()
    attacks = [function for function in ATTACKS if function.__name__ in args.only]
    if args.flips:
        attacks.append(partial(random_flips, number=args.flips, seed=args.seed))
    with copy_of(Path(args.target)) as run:
        print("| attack | tried | found and named | as |\n| --- | ---: | ---: | --- |", flush=True)
        run_all(run, attacks, partial(print, flush=True))
    missed = [f"{tried.what}: {name}" for tried in run.outcome.values() for name in tried.missed]
    print("\n".join([f"{len(missed)} not found", *missed]))


if __name__ == "__main__":
    main()
