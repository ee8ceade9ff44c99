# Shared by the files beside it: the plan, path patterns, resources.
import difflib
import functools
import sys
import threading
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))
# what may change without making a result stale stands here, not in the commands
shell.prefix(
    f"set -euo pipefail; export PATH={Path(sys.executable).parent}:$PATH; DEVICE={config['device']}; "
)

from wsss.errors import WsssError
from wsss.plan import Plan, configuration, cost, drawings, stages

try:
    configuration.check(config, workflow.configfiles)
    plan = Plan(config)
    plan.check(config["dataset"])
    MADE_BY_DEFAULT = drawings.default(plan, config["dataset"])
except WsssError as error:
    raise WorkflowError(str(error))

DATASET = config["dataset"]
RESULTS = config["results"]
DATA = f"{RESULTS}/{{dataset}}/data"
HOME = f"{RESULTS}/{{dataset}}/{{paper}}/{{run}}/seed{{seed}}"
SHARD = "{part}-{i}-of-{n}"
LOG = f"{RESULTS}/logs/{{dataset}}/{{paper}}/{{run}}/seed{{seed}}"
# a cluster that ends a job tells all its processes: the log must outlive what writes a checkpoint first
TEE = "2>&1 | (trap '' TERM; exec tee {log})"
ENV = "../../envs/wsss.yaml"


wildcard_constraints:
    dataset=r"[^/]+",
    paper=r"[^/]+",
    run=r"[^/]+",
    seed=r"\d+",
    part="seed|rest|val|test",
    i=r"\d+",
    n=r"\d+",


def home(w, stage):
    """Folder of a stage of the run that the wildcards name."""
    return str(plan.home(w.dataset, w.paper, w.run, w.seed, stage))


def model(stage):
    """The model a stage of the same run trained."""
    return lambda w: f"{home(w, stage)}/model.pt"


def same_shard(stage, suffix):
    """The shard of an earlier stage that covers the same images."""
    return lambda w: f"{home(w, stage)}/{w.part}-{w.i}-of-{w.n}.{suffix}"


def learnt_from(stage):
    """Shards of an earlier stage that a network is trained on."""
    return lambda w: plan.learnt_from(w.dataset, w.paper, w.run, w.seed, stage)


def weights(stage):
    """Models of other runs and weight files that the stage's settings name."""
    return lambda w: plan.references(w.dataset, w.paper, w.run, w.seed, stage)


def submitted(paper, run):
    """The archives of a run for the VOC server, one per seed; an error where there are no test images."""

    def archives(w):
        try:
            plan.test_options(DATASET)
        except WsssError as error:
            raise WorkflowError(str(error))
        homes = (
            plan.home(DATASET, paper, run, seed, "segment")
            for seed in plan.dataset(DATASET)["seeds"]
        )
        return [f"{home.parent}/submission/results.tgz" for home in homes]

    return archives


def measured_shards(w):
    """The shards of a stage's result over the images of a split."""
    return plan.shards(home(w, w.stage), w.stage, w.dataset, w.split)


def records(names):
    """Records of tables and figures, by name."""
    folders = {name: folder for name, _, folder in drawings.targets(plan, DATASET)}
    return [f"{folders[name]}/record.json" for name in names]


def no_such_target(w):
    """The error for a word that means nothing, with the nearest that does."""
    near = difflib.get_close_matches(w.word, drawings.words(plan, DATASET), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise WorkflowError(
        f"no table, figure or paper is called '{w.word}': {hint}`wsss targets` lists them"
    )


def drawn_from(kind):
    """What a table or figure is drawn from. The first one asked for says what all that was asked for will take."""

    def files(w):
        announce_cost()
        return drawings.inputs(drawings.spec(plan, w.dataset, kind, w.paper, w.name))

    return files


@functools.cache
def announce_cost():
    """Say what is missing for the targets of this command, once, and before any of it starts."""
    if workflow.is_main_process:  # and no job of it, on a cluster
        names = cost.names(plan, DATASET, workflow.dag_settings.targets)
        if lacking := cost.lacking(plan, DATASET, names):
            raise WorkflowError(
                f"weights are missing: {', '.join(lacking)}; see README, Weights"
            )
        if text := cost.describe(plan, DATASET, names):
            logger.info(f"\n{text}\n")


def stop_waiting():
    """Cancel Snakemake's timers for another look for work: its process would not end before they do."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


def where_results_are():
    """The last thing a run says."""
    made = [
        folder
        for _, _, folder in drawings.targets(plan, DATASET)
        if Path(folder, "record.json").is_file()
    ]
    lines = [
        "",
        "Done. Tables and figures so far:",
        *(f"  {folder}" for folder in made),
    ]
    page = Path(RESULTS, DATASET, "report", "index.html")
    records = [Path(folder, "record.json").stat().st_mtime for folder in made]
    if page.is_file() and page.stat().st_mtime >= max(records, default=0):
        lines += ["All of them on one page:", f"  {page}"]
    return "\n".join(lines)


def is_small(w):
    return plan.dataset(w.dataset)["builder"] == "shapes"


def minutes(light, heavy):
    """Run time to ask a cluster for: the drawn data sets are quick."""
    return lambda w, attempt: (light if is_small(w) else heavy) * attempt


def megabytes(heavy):
    """Memory to ask a cluster for."""
    return lambda w, attempt: (3000 if is_small(w) else heavy) * attempt


def beside_crf(has_crf):
    """Threads of a job that runs a network and, where its settings have one, a CRF in processes beside it."""

    def threads(w):
        crf = has_crf(plan.resolve(w.dataset, w.paper, w.run))
        return max(config["threads"], config["workers"] if crf else 1)

    return threads


def network_threads(w, threads):
    """Of a job's threads those for its network; a parameter made of them makes no result stale."""
    return min(threads, config["threads"])


def crf_processes(w, threads):
    """The processes for its CRF, no more than it has threads."""
    return min(threads, config["workers"])


GPU = config["gpus"]
RESOURCES = ("device", "gpus", "threads", "workers")  # settings that decide no result
