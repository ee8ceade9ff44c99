# Shared by all files with rules: the plan, path patterns, resources.
import difflib
import functools
import gc
import inspect
import shlex
import sys
import threading
import tomllib
from importlib import metadata

from packaging.requirements import Requirement

# A large graph of jobs consists of objects that stay alive: collect garbage less often.
gc.set_threshold(100_000, 50, 50)

sys.path.insert(0, f"{PROJECT}/workflow")
os.environ.setdefault(
    "WSSS_SNAKEMAKE", shlex.join(sys.argv)
)  # for the records of jobs, also under Slurm
from snakemake.settings.types import DeploymentMethod

DEPLOYED = workflow.deployment_settings.deployment_method
if DeploymentMethod.APPTAINER in DEPLOYED:
    raise WorkflowError(
        "--sdm apptainer: no image is offered; run snakemake inside of one, see envs/Dockerfile"
    )


PLANNED_WITH = {"jsonschema", "numpy", "pillow", "pydantic", "pyyaml"}


def lacking():
    """List the packages of pyproject.toml that this Python lacks; those of jobs count only if jobs run in it, too."""
    project = tomllib.loads(Path(PROJECT, "pyproject.toml").read_text(encoding="utf-8"))
    names = {Requirement(text).name for text in project["project"]["dependencies"]}
    if DeploymentMethod.CONDA in DEPLOYED:
        names &= PLANNED_WITH
    return sorted(
        name
        for name in names
        if not name.startswith("snakemake") and not is_installed(name)
    )


def is_installed(name):
    """Tell whether a package of that name is installed."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if missing := lacking():
    raise WorkflowError(
        f"the Python of this Snakemake, {sys.executable}, lacks {', '.join(missing)}; "
        f"install the project there (python -m pip install {shlex.quote(str(PROJECT))}), or use that of `make env`"
    )

if sys.getfilesystemencoding() != "utf-8" and not str(config).isascii():
    raise WorkflowError(
        f"the locale says that names of files are in {sys.getfilesystemencoding()}, and the configuration has letters "
        "beyond ASCII: type PYTHONUTF8=1 before snakemake"
    )


def quoted(path):
    """Quote a path for the shell. Snakemake reads braces as names, so they are doubled."""
    return shlex.quote(str(path)).replace("{", "{{").replace("}", "}}")


# jobs run this clone, in the Python that snakemake runs in, or in that of envs/wsss.yaml with --sdm conda
PYTHON = "python" if DeploymentMethod.CONDA in DEPLOYED else quoted(sys.executable)
PACKAGE = quoted(f"{PROJECT}/workflow")
from wsss import cluster
from wsss.errors import WsssError
from wsss.plan import (
    Plan,
    configuration,
    cost,
    drawings,
    extent,
    jobs,
    requests,
    targets,
    usage,
)
from wsss.plan.runs import Run
from wsss.plan.target import Target
from wsss.plan.work import Work
from wsss.plan.written import as_yaml, sections_as_yaml
from wsss.stages import (
    IN_SHARDS,
    MEASURED,
    STAGES,
    SUFFIXES,
    TRAINED,
    kind_learnt_from,
)

try:
    configuration.check(config, config_files())
    plan = Plan(config, files=config_files())
    plan.check(config["dataset"])
    MADE_BY_DEFAULT = targets.default(plan, config["dataset"])
except WsssError as error:
    raise WorkflowError(str(error))

# how results are computed stands here, not in the commands, so that a change of it makes nothing stale
shell.prefix(
    "set -euo pipefail;"
    # Snakemake's report has a logarithmic chart of run times, which a job of 0 s leaves empty: wait for one tick of file
    # times.
    " sleep .02;"
    # A signal reaches all processes of a job. The command answers it; the shell must outlive it.
    " trap : TERM INT;"
    # The first job writes PyTorch's bytecode, without which each job is slow to start.
    " unset PYTHONDONTWRITEBYTECODE;"
    f" export WSSS_TEMPORARY='{' '.join(config['temporary'])}';"
    f' wsss() {{{{ PYTHONUTF8=1 PYTHONPATH={PACKAGE} {PYTHON} -m wsss.cli "$@"; }}}};'
    f" DEVICE={config['device']}; LOADERS={config['loaders']}; CHECKPOINT_MINUTES={config['checkpoint_minutes']};"
    f" BATCH={config['batch']}; DETERMINISTIC={'--deterministic' * config['deterministic']};"
    f" COMPILE={'--compile' * config['compile']};"
    # a cluster gives each job its GPUs; on one machine each job takes its own
    f" export WSSS_CLAIM_GPUS={int(not workflow.remote_exec)}; "
)

DATASET = config["dataset"]
RESULTS = config["results"]
DATA = f"{RESULTS}/{{dataset}}/data"
HOME = f"{RESULTS}/{{dataset}}/{{paper}}/{{run}}/seed{{seed}}"
SHARD = "{part}-{i}-of-{n}"
LOG = f"{RESULTS}/logs/{{dataset}}/{{paper}}/{{run}}/seed{{seed}}"
OF_A_RUN = [name for name in STAGES if name != "index"]
# a cluster that ends a job, or Ctrl-C, signals all its processes: the log must outlive a training that writes a checkpoint
TEE = "2>&1 | (trap '' TERM INT; exec tee {log:q})"
ENV = f"{PROJECT}/envs/wsss.yaml".replace("{", "{{").replace("}", "}}")


wildcard_constraints:
    dataset=r"[^/]+",
    paper=r"[^/]+",
    run=r"[^/]+",
    seed=r"\d+",
    part="measured|rest|val|test",
    i=r"\d+",
    n=r"\d+",


# ---- what jobs read


def run_of(w):
    """The run that the wildcards name."""
    return Run(w.dataset, w.paper, w.run)


def signed(function):
    """Note the signature of a function. Snakemake would work it out again, several times for every job."""
    function.__signature__ = inspect.signature(function)
    return function


def home(w, stage):
    """Folder of a stage of the run that the wildcards name."""
    return str(plan.home(run_of(w), w.seed, stage))


def job(w, stage, file):
    """The job of a stage that makes a file of the run that the wildcards name."""
    return jobs.Job(w.dataset, w.paper, w.run, int(w.seed), stage, file)


def suffix(stage):
    """Suffix of a stage's shards."""
    return SUFFIXES[STAGES[stage].makes]


def result(stage):
    """Pattern of a stage's shards, temporary ones if they are configured so."""
    path = f"{HOME}/{stage}/{SHARD}.{suffix(stage)}"
    return temp(path) if STAGES[stage].makes in config["temporary"] else path


def same_shard(stage):
    """The shard of the same images that a stage reads, if it reads one."""
    if STAGES[stage].shard_of is None:
        return []
    file = f"{SHARD}.{suffix(stage)}"
    return signed(lambda w: jobs.same_shard(plan, job(w, stage, file.format(**w))))


def model(stage):
    """The network that a stage reads, if it reads one."""
    if STAGES[stage].model_of is None:
        return []
    return signed(lambda w: str(plan.model(run_of(w), w.seed, STAGES[stage].model_of)))


def learnt_from(stage):
    """Shards of an earlier stage that a network is trained on."""
    if STAGES[stage].learns_from is None:
        return []
    return signed(lambda w: plan.learnt_from(run_of(w), w.seed, stage))


def weights(stage):
    """Models of other runs and weight files that a training's settings name."""

    @signed
    def files(w):
        announce_files()
        return plan.references(run_of(w), w.seed, stage)

    return files


@signed
def measured_shards(w):
    """The shards of a stage's result over the images of a role."""
    announce_files()
    return plan.shards(home(w, w.stage), w.stage, w.dataset, w.images)


def submitted(paper, run):
    """The archives of a run for the VOC server, one per seed; an error where there are no test images."""

    def archives(w):
        try:
            plan.test_options(DATASET)
        except WsssError as error:
            raise WorkflowError(str(error))
        seeds = plan.dataset(DATASET)["seeds"]
        of_run = Run(DATASET, paper, run)
        folders = [plan.home(of_run, seed, "predict") for seed in seeds]
        return [f"{folder.parent}/submission/results.tgz" for folder in folders]

    return archives


def further_along(stage):
    """The priority of a stage: what is further along goes first, so that one chain ends before the next begins."""
    return list(STAGES).index(stage)


# ---- how commands are put together


def option(name, files):
    """An option of a command and the files it names, quoted for the shell."""
    return shlex.join([f"--{name}", *([files] if isinstance(files, str) else files)])


def reads(stage):
    """The options of a stage's command that name what it reads."""

    @signed
    def options(w, input):
        scores = option("scores", input.scores) if STAGES[stage].shard_of else ""
        model = option("model", input.model) if STAGES[stage].model_of else ""
        return f"{scores} {model}".strip()

    return options


def learns(stage):
    """The option of a training's command that names what it learns from."""
    kind = kind_learnt_from(STAGES[stage])
    return signed(lambda w, input: option(kind, input.learnt) if kind else "")


# ---- targets


FOLDERS = targets.folders(plan, DATASET)


def describe(name, text):
    """Give a rule its line in `snakemake --list`. A workflow around this one may rename or leave out the rule."""
    for each in workflow.modifier.rules:
        if each.name == known_as(name):
            each.docstring = text


DRAWN_FILES = {
    "tables": ("table.csv", "table.md", "table.tex", "table.html", "record.json"),
    "figures": ("figure.pdf", "figure.png", "record.json"),
}
DRAWN_FILES["claims"] = (*DRAWN_FILES["tables"][:-1], *DRAWN_FILES["figures"])


def files_of(names):
    """All files of the tables, figures and claims of these names."""
    return [
        f"{folder}/{file}"
        for folder in (FOLDERS[name] for name in names)
        for file in DRAWN_FILES[Path(folder).parent.name]
    ]


def no_such_target(w):
    """The error for a word that means nothing, with the nearest that does."""
    near = difflib.get_close_matches(w.word, targets.words(plan, DATASET), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise WorkflowError(
        f"no table, figure, claims or paper is called '{w.word}': {hint}`wsss targets` lists them"
    )


def drawn_from(kind):
    """Return the files that a table, a figure or claims are drawn from.

    The first call also announces the cost of everything that was asked for.
    """

    def files(w):
        is_ours = workflow.default_target == known_as("all")  # and no other workflow's
        announce_cost(None if is_ours else w.word)
        return drawings.inputs(drawing(w.dataset, kind, w.word))

    return files


def drawing(dataset, kind, word):
    """Return all that decides a table, a figure or claims on a data set."""
    return drawings.drawing(plan, dataset, Target.of(kind, word))


def said_of(kind, key):
    """Return the title or caption of the table, figure or claims that the wildcards name."""

    def text(w):
        return drawings.about(plan, Target.of(kind, w.word))[key]

    return text


@functools.cache
def announce_cost(word):
    """Say what is missing, once, and before any of it starts: for a target, or for all targets of this command."""
    if workflow.is_main_process:  # not in a job of the workflow, on a cluster
        asked = workflow.dag_settings.targets
        names = [word] if word else targets.named(plan, DATASET, asked)
        work = Work(plan, DATASET, names)
        if obstacle := work.obstacle():
            raise WorkflowError(obstacle)
        if text := cost.describe(work):
            logger.info(f"\n{text}\n")


def announce_files():
    """Announce the cost where results of runs are asked for by their files, for which nothing is drawn."""
    if any(jobs.is_result(plan, text) for text in workflow.dag_settings.targets):
        announce_cost(None)


def check_disk():
    """Refuse to start on a cluster what does not fit the disk."""
    names = targets.named(plan, DATASET, workflow.dag_settings.targets)
    extent.check_disk(Work(plan, DATASET, names))


def stop_waiting():
    """Cancel Snakemake's timers for another look for work: its process would not end before they do."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


def it_is_over(state):
    """On a cluster, say what was asked for and what was used, and run what its site wants to be run at the end."""
    if "ON_CLUSTER" in globals() and (path := usage.write_efficiency(plan, DATASET)):
        print(f"What jobs asked for and used: {path}")
    if "SITE" in globals():
        cluster.at_end(SITE, state)


def where_results_are():
    """Return what a run says at its end."""
    made = [
        folder for folder in FOLDERS.values() if Path(folder, "record.json").is_file()
    ]
    lines = ["", "Done."]
    if made:
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


# ---- resources


def gpus(stage):
    """GPUs to ask for, and to refuse to work without. Only trainings can use several."""
    if config["device"] == "cpu" or not STAGES[stage].network:
        return 0
    return config["gpus"] if STAGES[stage].trains else min(config["gpus"], 1)


def images_worked_on(w):
    """Return the images a job works on, in the words of its wildcards."""
    return SHARD.format(**w) if "part" in w.keys() else w.get("images", "")


def at_most(limit, rule, value):
    """Lower a request to what a job of a rule can be granted, where slurm/cluster.smk has named the cluster."""
    if "SITE" not in globals():
        return value
    most = limit(SITE, rule in STAGES and gpus(rule) > 0)
    return value if most is None else min(value, most)


def minutes(rule):
    """Run time to ask a cluster for."""

    @signed
    def number(w, attempt):
        found = requests.minutes(
            plan, rule, w.dataset, images_worked_on(w), attempt, rule in TRAINED
        )
        return at_most(cluster.most_minutes, rule, found)

    return number


def megabytes(rule):
    """Memory to ask a cluster for."""

    @signed
    def number(w, attempt):
        several = rule in STAGES and in_processes(w, rule)
        found = requests.megabytes(
            plan, rule, w.dataset, config["workers"] if several else 0, attempt
        )
        return at_most(cluster.most_memory, rule, found)

    return number


def in_processes(w, stage):
    """Tell whether the job that the wildcards name works in several processes."""
    by_settings = isinstance(STAGES[stage].processes, str)
    settings = plan.resolve(run_of(w)) if by_settings else {}  # the index has no run
    return requests.has_processes(stage, settings)


def threads(stage):
    """Threads of a job: those of its network, or as many as it has processes."""
    least = config["threads"] if STAGES[stage].network else 1

    def number(w):
        return max(least, config["workers"] if in_processes(w, stage) else 1)

    return signed(number) if isinstance(STAGES[stage].processes, str) else number(None)


def network_threads(stage):
    """Return the threads of a job that are for its network. As a parameter of a rule they make no result stale."""
    most = config["threads"] if STAGES[stage].network else 1
    return signed(lambda w, threads: min(threads, most))


def processes(stage):
    """The processes of a job, no more than it has threads."""
    return signed(lambda w, threads: min(threads, config["workers"]))
