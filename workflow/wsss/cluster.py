"""What the workflow asks a Slurm cluster for, and what it does about lost jobs and time limits.

Only the main process of a workflow imports this. Nothing here changes a result.
"""

from __future__ import annotations

import functools
import getpass
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsss.errors import WsssError
from wsss.files import read_yaml
from wsss.provenance.ledger import ledger_path

SITE = "WSSS_SITE"  # environment: the site file, if it is not the one beside the profile
LACKS_GPU = "lacks GPU"  # the event that wsss.devices notes; to import that module would load torch
RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # in Slurm's name of a Snakemake job: the id of the run
GONE = 180  # seconds within which a cancelled job is gone


class Site(BaseModel):
    """The properties of a cluster: ``slurm/site.yaml``. What is not said there is left to the cluster."""

    model_config = ConfigDict(extra="forbid", strict=True)

    account: str | None = None
    gpu_partition: str | None = None
    cpu_partition: str | None = None
    qos: str | None = None
    gpu_type: str | None = None
    most_minutes: int | None = Field(default=None, gt=0)
    most_memory_mb: int | None = Field(default=None, gt=0)
    warn_minutes: float = Field(default=5, ge=0)
    options: str = ""
    at_end: str | None = None

    def partition(self, gpu: bool) -> str | None:
        """Return the partition of a job; None for the cluster's default."""
        return self.gpu_partition if gpu else self.cpu_partition


def load_site(beside: Path) -> Site:
    """Read the site file of the profile in the folder ``beside``. Without a file, the cluster decides everything.

    Raises:
        WsssError: the file holds something else than a site's settings.
    """
    path = Path(os.environ.get(SITE) or beside / "site.yaml")
    if not path.is_file():
        if SITE in os.environ:
            raise WsssError(f"{path}: no such file; {SITE} names it as the site file")
        return Site()
    found = read_yaml(path) or {}
    if not isinstance(found, dict):
        raise WsssError(f"{path}: holds no settings; see site.example.yaml")
    try:
        return Site(**found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise WsssError(f"{path}, {key}: {first['msg'].lower()}; see site.example.yaml") from None


# ---- resources of rules


def fit(resources: Any, site: Site, trains: bool, record: Callable[[Any], str] | None) -> None:
    """Complete the resources of a rule with what the site says.

    Args:
        resources: the resources of the rule, as Snakemake keeps them. They are changed in place. A resource that is
            set already was asked for, and stays.
        site: the cluster.
        trains: the rule trains a network, so it is warned before its time is over.
        record: a function from wildcards to the record of the rule's job. None for a rule whose jobs share a
            submission: its options must be the same for all of them.
    """
    gpu = "gpu" in resources and bool(resources["gpu"].value)
    said = {"slurm_account": site.account, "slurm_partition": site.partition(gpu), "qos": site.qos}
    if gpu:
        said["gpu_model"] = site.gpu_type
    for name, value in said.items():
        if value is not None and name not in resources:
            resources[name] = value
    if "slurm_extra" in resources:
        return

    def extra(wildcards: Any, attempt: int) -> str:
        return options(site, trains, attempt, record(wildcards) if record else None)

    resources["slurm_extra"] = extra


def options(site: Site, trains: bool, attempt: int, record: str | None) -> str:
    """Return further options for sbatch.

    A requeued job appends to its log. A training is warned before its time is over. A job that is tried again avoids
    the nodes that lacked a GPU.
    """
    found = ["--open-mode=append"]
    if trains and site.warn_minutes:
        seconds = round(60 * site.warn_minutes)
        found.append(f"--signal=TERM@{seconds}")
    if attempt > 1 and record:
        nodes = nodes_without_gpu(ledger_path(record))
        found += [f"--exclude={','.join(nodes)}"] if nodes else []
    return " ".join([*found, site.options]).strip()


def nodes_without_gpu(ledger: Path) -> list[str]:
    """Return the nodes on which attempts at a result asked for a GPU and saw none."""
    if not ledger.is_file():
        return []
    lines = ledger.read_text(encoding="utf-8").splitlines()
    events = map(json.loads, lines)
    return sorted({event["node"] for event in events if event["event"] == LACKS_GPU})


def most_minutes(site: Site, gpu: bool) -> int | None:
    """Return the longest time that a job may ask for: the site's, or its partition's limit; None without limit."""
    return site.most_minutes or _limit(site.partition(gpu))


@functools.cache
def _limit(partition: str | None) -> int | None:
    for name, limit in partitions():
        if name.rstrip("*") == partition or (partition is None and name.endswith("*")):
            return minutes(limit)
    return None


def most_memory(site: Site, gpu: bool) -> int | None:
    """Return the most memory in MB that a job may ask for: the site's, or its partition's largest node's."""
    return site.most_memory_mb or _largest_node(site.partition(gpu))


@functools.cache
def _largest_node(partition: str | None) -> int | None:
    if not shutil.which("sinfo"):
        return None
    where = ["-p", partition] if partition else []
    answer = subprocess.run(["sinfo", "-h", "-N", "-o", "%m", *where], capture_output=True, text=True, check=False)
    sizes = map(int, re.findall(r"\d+", answer.stdout))
    return max(sizes, default=None)


def minutes(limit: str) -> int | None:
    """Turn Slurm's words for a time limit, such as ``1-12:00:00`` or ``30:00``, into minutes; None for ``infinite``."""
    if not (found := re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)):
        return None
    days, hours, rest, _ = map(int, found.groups(default="0"))
    return max(days * 1440 + hours * 60 + rest, 1)


@functools.cache
def partitions() -> list[tuple[str, str]]:
    """List (name, time limit) of the cluster's partitions; the default one's name ends with ``*``."""
    if not shutil.which("sinfo"):
        return []
    answer = subprocess.run(["sinfo", "-h", "-o", "%P %l"], capture_output=True, text=True, check=False)
    found = []
    for line in answer.stdout.splitlines():
        name, _, limit = line.partition(" ")
        found.append((name, limit))
    return found


def ask(*command: str) -> str:
    """Return the answer of a command of Slurm.

    Raises:
        WsssError: it fails.
    """
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise WsssError(f"{' '.join(command)}: {' '.join(answer.stderr.split()) or 'failed'}")
    return answer.stdout


# ---- before the first job


def check(site: Site, gpus: int, folders: Iterable[str | Path] = ()) -> None:
    """Look for what would make jobs fail later.

    Args:
        site: the cluster.
        gpus: the number of GPUs that a training asks for.
        folders: the folders that the commands of jobs name.

    Raises:
        WsssError: the first finding.
    """
    if odd := [str(folder) for folder in folders if "'" in str(folder)]:
        raise WsssError(f"{odd[0]}: Snakemake cannot name a folder with an apostrophe to a cluster's jobs; rename it")
    if not shutil.which("sbatch"):
        raise WsssError("sbatch: not found; start the workflow on a login node of the cluster")
    if not shutil.which("sacct") and not site.account:
        raise WsssError("sacct: not found, so no account can be guessed; name one in slurm/site.yaml: account")
    names = [name.rstrip("*") for name, _ in partitions()]
    for partition in {site.partition(gpu) for gpu in (False, True)} - {None}:
        if partition not in names:
            raise WsssError(f"slurm/site.yaml: there is no partition '{partition}'; the cluster has {', '.join(names)}")
    if gpus:
        _check_gpus(site)


def _check_gpus(site: Site) -> None:
    """Look for GPUs of the site's type in its partition."""
    where = ["-p", site.gpu_partition] if site.gpu_partition else []
    listed = ask("sinfo", "-h", "-o", "%G", *where)
    kinds = sorted(set(re.findall(r"gpu(?::([^:,()\s]+))?(?::\d+)", listed)))
    if not kinds:
        of = f"partition '{site.gpu_partition}'" if where else "the cluster"
        raise WsssError(f"{of} has no GPU; name another gpu_partition in slurm/site.yaml, or use --config gpus=0")
    if site.gpu_type and site.gpu_type not in kinds:
        raise WsssError(f"slurm/site.yaml: there is no GPU of type '{site.gpu_type}'; there are {', '.join(kinds)}")


def cancel_orphans(folder: str | Path) -> list[str]:
    """Cancel the jobs that a lost controller left in this working folder, and wait until they are gone.

    A controller is the main process of a workflow. Trainings write a checkpoint first. Left alone, such a job would
    delete and rewrite what this controller makes.

    Returns:
        Their job ids.
    """
    if not (found := orphans(folder)):
        return []
    ask("scancel", *found)
    deadline = time.monotonic() + GONE
    while set(orphans(folder)) & set(found) and time.monotonic() < deadline:
        time.sleep(2)
    return found


def orphans(folder: str | Path) -> list[str]:
    """List the job ids of Snakemake's jobs that wait or run in a working folder."""
    listed = ask("squeue", "-h", "-u", getpass.getuser(), "-o", "%i|%j|%Z")
    here = os.path.realpath(folder)
    found = []
    for line in listed.splitlines():
        job, name, where = line.split("|", 2)
        if RUN.search(name) and os.path.realpath(where) == here:
            found.append(job)
    return found


# ---- after the last


def at_end(site: Site, state: str) -> None:
    """Run the site's command for the end of a workflow; ``$WSSS_STATE`` is ``done`` or ``failed``."""
    if site.at_end:
        subprocess.run(["bash", "-c", site.at_end], env={**os.environ, "WSSS_STATE": state}, check=False)
