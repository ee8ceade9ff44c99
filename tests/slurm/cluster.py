"""A real Slurm of two nodes on one machine, for tests; only its CPUs and GPUs are made up.

As root on Debian or Ubuntu: python tests/slurm/cluster.py up [accounting] | down | crash NODE JOB
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
FOR_ACCOUNTING = ("slurmdbd", "mariadb-server")
NODES = ("node1", "node2")
ETC, RUN, SPOOL, LOG = (Path(folder) for folder in ("/etc/slurm", "/run/slurm", "/var/spool/slurm", "/var/log/slurm"))
OURS = "# written by tests/slurm/cluster.py"
GPUS = 2  # of each node
SHORT = 4  # minutes that a job may take in partition "short"

CONFIGURATION = f"""{OURS}
ClusterName=test
SlurmctldHost={{host}}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmctldPidFile={RUN}/slurmctld.pid
SlurmdPidFile={RUN}/slurmd.%n.pid
SlurmdSpoolDir={SPOOL}/%n
StateSaveLocation={SPOOL}/controller
SlurmctldLogFile={LOG}/slurmctld.log
SlurmdLogFile={LOG}/slurmd.%n.log
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=20
MinJobAge=300
KillWait=10
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0,requeue_delay=1
GresTypes=gpu
DefMemPerCPU=100
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/{{accounting}}
JobCompType=jobcomp/filetxt
JobCompLoc={LOG}/jobs.log
{{nodes}}
PartitionName=main Default=YES PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE Nodes=node[1-2]
PartitionName=short PriorityTier=10 PreemptMode=OFF MaxTime={SHORT} Nodes=node[1-2]
PartitionName=scavenge PriorityTier=1 PreemptMode=REQUEUE MaxTime=INFINITE Nodes=node[1-2]
"""
DATABASE = f"""AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
SlurmUser=root
PidFile={RUN}/slurmdbd.pid
LogFile={LOG}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
TABLES = """CREATE DATABASE IF NOT EXISTS slurm; CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED BY 'slurm';
GRANT ALL ON slurm.* TO slurm@localhost;"""


def up(*also: str) -> None:
    """Install what is missing, write the configuration and start the daemons; ``accounting`` starts Slurm's, too."""
    accounting = "accounting" in also
    _install(accounting)
    for folder in (ETC, RUN, SPOOL / "controller", LOG, *(SPOOL / node for node in NODES)):
        folder.mkdir(parents=True, exist_ok=True)
    _configure("slurmdbd" if accounting else "none")
    _start_munge()
    if accounting:
        _start_tables()
        start_accounting()
    if not _alive("slurmctld"):
        _run("slurmctld")
    _until(lambda: _run("scontrol", "ping", check=False).returncode == 0, "slurmctld answers")
    start_nodes()
    _until(lambda: len(idle()) == len(NODES), "all nodes are idle")


def down() -> None:
    """Cancel all jobs and stop the daemons."""
    if _alive("slurmctld"):
        _run("scancel", "--user=root", check=False)
    for name in (*(f"slurmd.{node}" for node in NODES), "slurmctld", "slurmdbd", "mariadbd"):
        _stop(RUN / f"{name}.pid")
    _stop(Path("/run/munge/munged.pid"))


def start_accounting() -> None:
    """Start slurmdbd."""
    if not _alive("slurmdbd"):
        _run("slurmdbd")
    _until(lambda: _run("sacctmgr", "-n", "show", "cluster", check=False).returncode == 0, "slurmdbd answers")
    for words in (("cluster", "test"), ("account", "wsss", "Cluster=test"), ("user", "root", "Account=wsss")):
        _run("sacctmgr", "-i", "add", *words, check=False)  # which fails for what is there


def stop_accounting() -> None:
    """Stop slurmdbd."""
    _stop(RUN / "slurmdbd.pid")


def start_nodes() -> None:
    """Start the daemons of all nodes that have none."""
    for node in NODES:
        start_node(node)


def start_node(node: str) -> None:
    if not _alive(f"slurmd.{node}"):
        _run("slurmd", "-N", node)


def leave_node(node: str) -> None:
    """Kill a node's daemon only: its jobs go on, and the controller loses sight of them."""
    os.kill(int((RUN / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)
    (RUN / f"slurmd.{node}.pid").unlink()


def crash(node: str, job: str) -> None:
    """Kill a node's daemon, and all processes of a job on it."""
    found = [int(line.split()[0]) for line in _processes() if f"slurmstepd: [{job}." in line]
    leave_node(node)
    for process in [*found, *(child for one in found for child in _descendants(one))]:
        _kill(process)


def idle() -> list[str]:
    """Nodes that take jobs."""
    lines = _run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").stdout.splitlines()
    return [line.split()[0] for line in lines if line.split()[1] in ("idle", "mixed", "allocated", "completing")]


def is_ours() -> bool:
    """Whether this machine's Slurm is the one of this file."""
    path = ETC / "slurm.conf"
    return path.exists() and path.read_text().startswith(OURS)


def _install(accounting: bool) -> None:
    packages = (*PACKAGES, *(FOR_ACCOUNTING if accounting else ()))
    programs = ("slurmctld", "slurmd", "sbatch", "munged", *(("slurmdbd", "mariadbd") if accounting else ()))
    if all(shutil.which(name) for name in programs):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (("update", "-qq"), ("install", "-y", "-qq", "--no-install-recommends", *packages)):
        subprocess.run(["apt-get", *words], env=environment, check=True, stdout=subprocess.DEVNULL)


def _configure(accounting: str) -> None:
    """Write slurm.conf; a configuration of another hand is left alone."""
    path, host = ETC / "slurm.conf", socket.gethostname().partition(".")[0]
    if path.exists() and not is_ours():
        raise SystemExit(f"{path}: this machine is part of a cluster already")
    has = f"CPUs=8 RealMemory=32000 Gres=gpu:toy:{GPUS}"
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={17010 + i} {has}" for i, node in enumerate(NODES)
    ]
    path.write_text(CONFIGURATION.format(host=host, nodes="\n".join(lines), accounting=accounting))
    devices = [_device(i) for i in range(GPUS)]
    (ETC / "gres.conf").write_text("".join(f"Name=gpu Type=toy File={device}\n" for device in devices))


def _device(i: int) -> str:
    """A character device to stand for a GPU: a twin of /dev/null, or another one that every machine has."""
    path = Path(f"/dev/toygpu{i}")
    if not path.exists():
        made = _run("mknod", "-m", "666", str(path), "c", "1", "3", check=False)
        if made.returncode:
            return ("/dev/zero", "/dev/full")[i]
    return str(path)


def _start_tables() -> None:
    """Start a database of its own for slurmdbd, which only finds it at the usual socket."""
    tables, socket_folder = SPOOL / "mysql", Path("/run/mysqld")
    for folder in (tables, socket_folder):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.chown(folder, "mysql", "mysql")
    if not (tables / "mysql").is_dir():
        _run("mariadb-install-db", "--user=mysql", f"--datadir={tables}")
    if not _alive("mariadbd"):
        pid_file = tables / "mariadbd.pid"
        options = (f"--datadir={tables}", f"--pid-file={pid_file}", f"--socket={socket_folder}/mysqld.sock")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        started = subprocess.Popen(["mariadbd", "--user=mysql", "--skip-networking", *options], **quiet)
        (RUN / "mariadbd.pid").write_text(str(started.pid))
        started.returncode = 0  # it outlives this process, and nobody waits for it
    _until(lambda: _run("mysqladmin", "ping", check=False).returncode == 0, "the database answers")
    _run("mysql", "-e", TABLES)
    path = ETC / "slurmdbd.conf"
    path.write_text(DATABASE)
    path.chmod(0o600)


def _start_munge() -> None:
    folder = Path("/run/munge")
    folder.mkdir(exist_ok=True)
    shutil.chown(folder, "munge", "munge")
    folder.chmod(0o755)
    if not Path("/etc/munge/munge.key").exists():
        _run("runuser", "-u", "munge", "--", "/usr/sbin/mungekey", "--create")
    if not _is_running(folder / "munged.pid"):
        _run("runuser", "-u", "munge", "--", "/usr/sbin/munged")
    _until(lambda: _run("munge", "-n", check=False).returncode == 0, "munge answers")


def _alive(name: str) -> bool:
    return _is_running(RUN / f"{name}.pid")


def _is_running(pid_file: Path) -> bool:
    """Whether the process of a pid file runs; a zombie does not."""
    try:
        state = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return False
    return state != "Z"


def _stop(pid_file: Path) -> None:
    if _is_running(pid_file):
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        _until(lambda: not _is_running(pid_file), f"{pid_file.stem} stops")
    pid_file.unlink(missing_ok=True)


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _processes() -> list[str]:
    return _run("ps", "-eo", "pid,args", "--no-headers").stdout.splitlines()


def _descendants(process: int) -> list[int]:
    found = [int(word) for word in _run("ps", "-o", "pid=", "--ppid", str(process), check=False).stdout.split()]
    return [*found, *(inner for one in found for inner in _descendants(one))]


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=check)


def _until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain until {what}; see {LOG}")
        time.sleep(0.2)


if __name__ == "__main__":
    actions = {"up": up, "down": down, "crash": crash}
    asked, *arguments = sys.argv[1:] or ["--help"]
    if asked not in actions:
        raise SystemExit(__doc__)
    actions[asked](*arguments)
