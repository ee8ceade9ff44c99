"""A run of everything at the papers' sizes to its end, with a stub in place of the computing.

    python benchmarks/whole_run.py                                        # all of VOC 2012 and COCO 2014
    python benchmarks/whole_run.py --dataset shapes --targets seam_table2
    python benchmarks/whole_run.py --targets seam_table2 --slurm          # through the Slurm that is here

Snakemake's scheduler, the rules, their commands and logs are the real ones, in a copy of the sources; only what
``wsss.cli`` would compute is not (``stub_cli.py``). With ``--slurm`` it is ``--profile slurm``: jobs are grouped and
submitted as they are for real, with little memory and one thread each.

It prints jobs, submissions, seconds, and the memory of the largest process, which is Snakemake's main one. The last
line is ``ratio <jobs / seconds>``.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dry_run import ROOT, prepare

SOURCES = ("Snakefile", "config.yaml", "pyproject.toml", "workflow", "slurm", "profiles", "envs", "config")
SITE = "most_memory_mb: 1000\nmost_minutes: 30\n"  # so that many stubs are on a node at once
FEW = ("threads=1", "workers=1", "loaders=1", "temporary=[scores]")  # real scores need a large disk, which is checked
STARTED = re.compile(r"^(?:Job|Group job) .* has been submitted with SLURM jobid", re.M)


def copy_with_stub(folder: Path) -> None:
    """Copy the sources into a folder; their commands compute nothing."""
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    shutil.copy(Path(__file__).with_name("stub_cli.py"), folder / "workflow" / "wsss" / "cli.py")
    (folder / "site.yaml").write_text(SITE, encoding="utf-8")


def run(folder: Path, dataset: str, targets: list[str], slurm: bool) -> str:
    """Run the workflow to its end; returns what it says."""
    further = str(prepare(folder, dataset))
    config = [*([] if slurm or dataset != "voc12" else ["slurm/voc12.yaml"]), further]
    command = [sys.executable, "-m", "snakemake", "--quiet", "rules", "--configfile", *config]
    if slurm:
        command += ["--profile", "slurm", "--config", *FEW, "--slurm-init-seconds-before-status-checks", "5"]
    else:
        command += ["--cores", "4"]
    env = {**os.environ, "WSSS_SITE": str(folder / "site.yaml")} | ({} if slurm else {"SLURM_CONF": os.devnull})
    result = subprocess.run([*command, "--", *targets], cwd=folder, env=env, capture_output=True, text=True)
    said = result.stdout + result.stderr
    if result.returncode:
        raise SystemExit(said[-6000:])
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="voc12", help="(default: voc12, and coco14 beside it)")
    parser.add_argument("--targets", nargs="+", default=["everything"], help="(default: everything)")
    parser.add_argument("--slurm", action="store_true", help="submit the jobs to Slurm")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_with_stub(folder)
        start = time.monotonic()
        said = run(folder, args.dataset, args.targets, args.slurm)
        seconds = time.monotonic() - start
        made = len(list(folder.glob("results/**/*record.json")))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = max(map(int, re.findall(r"of (\d+) steps", said)), default=0)
    print(f"{jobs} jobs to their end in {seconds:.0f} s, {made} results with a record")
    if args.slurm:
        print(f"{len(STARTED.findall(said))} submissions")
    cpu = used.ru_utime + used.ru_stime
    print(f"{cpu:.0f} s of CPU time, {1000 * cpu / max(jobs, 1):.0f} ms a job")
    print(f"at most {used.ru_maxrss / 1024:.0f} MiB in a process")
    print(f"ratio {jobs / seconds:.2f}")


if __name__ == "__main__":
    main()
