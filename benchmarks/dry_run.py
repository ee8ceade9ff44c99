"""The dry run of everything at the papers' sizes, beside a bare Snakemake workflow of as many jobs.

    python benchmarks/dry_run.py                                       # all of VOC 2012 and COCO 2014
    python benchmarks/dry_run.py --dataset shapes --targets seam_table2

Both are `snakemake -n` in a folder without results, in seconds of CPU time. A job of the bare workflow has a settings
file, a result, a record, a log, requests and a command as ours have, but nothing has to be found out for it. The last
line is the time of the bare workflow over that of ours: the share that is Snakemake's own.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
BARE = """
rule all:
    input: [f"made/{{i}}/result.bin" for i in range({jobs})]

rule configure:
    output: "made/{{i}}/config.yaml"
    log: "logs/{{i}}/configure.log"
    localrule: True
    params: text=lambda w: "settings" * 200
    shell: "printf %s {{params.text:q}} > {{output:q}}"

rule compute:
    input: config="made/{{i}}/config.yaml"
    output: result="made/{{i}}/result.bin", record="made/{{i}}/record.json"
    log: "logs/{{i}}/compute.log"
    threads: lambda w: 1
    resources: mem_mb=lambda w, attempt: 1000 * attempt, runtime=lambda w, attempt: 60 * attempt
    params: out=subpath(output.result, parent=True), workers=lambda w, threads: threads
    shell: "compute --config {{input.config:q}} --workers {{params.workers}} --out {{params.out:q}} > {{log:q}}"
"""


def dry_run(folder: Path, *arguments: str) -> tuple[float, int]:
    """Return the CPU seconds of a dry run, and the number of its jobs."""
    env = {**os.environ, "SLURM_CONF": os.devnull}  # Slurm's plugin asks a controller, which is not what is measured
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "host", "--directory", str(folder), *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = result.stdout + result.stderr
    if result.returncode or not (found := re.search(r"^total +(\d+)", text, re.M)):
        raise SystemExit(text[-4000:])
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, int(found[1])


def prepare(folder: Path, dataset: str) -> Path:
    """Make what a dry run asks for: files in place of weights, a folder for COCO. Return the further configuration."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    for network in config["datasets"][dataset]["stand_ins"].values():
        weights = network.get("weights") or ""
        if weights and not weights.startswith("run:"):
            (folder / weights).parent.mkdir(exist_ok=True)
            (folder / weights).touch()
    further = {"dataset": dataset, "datasets": {"coco14": {"options": {"root": str(folder)}}}}
    path = folder / "further.yaml"
    path.write_text(yaml.safe_dump(further), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="voc12", help="(default: voc12, and coco14 beside it)")
    parser.add_argument("--targets", nargs="+", default=["everything"], help="(default: everything)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        profile = [str(ROOT / "slurm/voc12.yaml")] if args.dataset == "voc12" else []
        configuration = ["--configfile", *profile, str(prepare(folder, args.dataset))]
        ours, jobs = dry_run(folder, *configuration, "--", *args.targets)
        print(f"ours: {jobs} jobs, {ours:.1f} s of CPU time, {1000 * ours / jobs:.1f} ms a job", flush=True)
        bare_file = folder / "Snakefile"
        bare_file.write_text(BARE.format(jobs=jobs // 2), encoding="utf-8")
        bare, bare_jobs = dry_run(folder, "--snakefile", str(bare_file))
        print(f"bare Snakemake: {bare_jobs} jobs, {bare:.1f} s of CPU time, {1000 * bare / bare_jobs:.1f} ms a job")
    print(f"ratio {bare / ours:.2f}")


if __name__ == "__main__":
    main()
