"""The commands that make results. Each stage is one, in pipeline order; the rules run exactly these.

Each command imports what it needs when it runs: drawing a table must not wait for torch.
"""

from __future__ import annotations

import functools
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

from wsss import stages
from wsss.arguments import IN, OUT, Argument, command, number, register
from wsss.errors import WsssError
from wsss.files import INSTALLED, read_json, read_yaml
from wsss.stages import IN_SHARDS, MEASURED, STAGES, TRAINED, Stage

CONFIG = Argument("--config", "resolved settings of this stage (config.yaml in its folder)", IN)
DATA = Argument("--data", "folder of the data set's index", IN)
FILE = Argument("--out", "file to write", OUT)
FOLDER = Argument("--out", "folder to write", OUT, folder=True)
PART = Argument(
    "--part",
    "images to work on: train, measured (those compared with masks), rest (other training images), val or test",
    default="measured",
    required=False,
)
SHARD = Argument(
    "--shard", "i/n: the i-th of n equal parts of these images, counted from 0", default="0/1", required=False
)
DEVICE = Argument("--device", "auto, cpu or cuda", default="auto", required=False)
DEVICES = Argument("--device", "auto, cpu, cuda, or cuda:N for N GPUs", default="auto", required=False)
WORKERS = Argument("--workers", "processes for work on the CPU", default="1", required=False)
LOADERS = Argument("--loaders", "processes that load images for a network", default="0", required=False)
BATCH = Argument(
    "--batch",
    "images that a network takes at once, or auto: one on a CPU, four on a GPU",
    default="auto",
    required=False,
)
DETERMINISTIC = Argument("--deterministic", "on a GPU, only kernels that give the same bits each time", switch=True)
COMPILE = Argument("--compile", "torch.compile a training's backbones", switch=True)
CHECKPOINTS = Argument(
    "--checkpoint-minutes", "minutes between two checkpoints of a training", default="15", required=False
)
SCORES = Argument("--scores", "shards of class scores to read", IN, many=True)
MODEL = Argument("--model", "trained network to use (model.pt)", IN)
WEIGHTS = Argument("--weights", "models and weight files that the settings name", IN, many=True, required=False)
METRICS = Argument("--metrics", "metrics files that these settings name", IN, many=True, required=False)
DRAWING = Argument(
    "--drawing", "settings of the drawing: the config.yaml in the folder of the table, figure or claims", IN
)


# ---- data


@command("download", Argument("name", "voc2012, sbd or voc2012-test"), Argument("--out", "folder to unpack into"))
def _download(args: Namespace) -> None:
    """Fetch, verify and unpack a public data set; an interrupted download goes on where it stopped."""
    from wsss.data import download

    download.fetch(args.name, Path(args.out))


@command("augment", Argument("--voc", "VOC2012 folder", IN), Argument("--sbd", "SBD folder", IN), FOLDER)
def _augment(args: Namespace) -> None:
    """Derive VOC's train_aug list and masks from VOC 2012 and SBD."""
    from wsss.data import download

    download.augment(Path(args.voc), Path(args.sbd), Path(args.out))


@command("index", CONFIG, FOLDER)
def _index(args: Namespace) -> None:
    """Build a data set's index table and check every file it names."""
    from wsss import data

    data.build(read_yaml(args.config), Path(args.out))


# ---- the stages of a run


def _register_stage(name: str, stage: Stage) -> None:
    """Register a stage that trains, or works image by image, as a command."""
    if stage.trains:
        options = [*_learns_from(stage), FOLDER, WEIGHTS, DEVICES, LOADERS, CHECKPOINTS, DETERMINISTIC, COMPILE]
        register(name, stage.help, lambda args: _run_training(name, args), CONFIG, DATA, *options)
        return
    reads = []
    if stage.shard_of:
        reads.append(SCORES)
    if stage.model_of:
        reads.append(MODEL)
    options = [*reads, FILE, PART, SHARD, DEVICE, WORKERS, LOADERS, BATCH, DETERMINISTIC]
    register(name, stage.help, lambda args: _run_shards(name, args), CONFIG, DATA, *options)


def _learns_from(stage: Stage) -> list[Argument]:
    """Return the option that names what a network is trained on."""
    kind = stages.kind_learnt_from(stage)
    if kind is None:
        return []
    return [Argument(f"--{kind}", f"{kind[:-1]} shards it is trained on", IN, many=True, required=False)]


def _run_shards(name: str, args: Namespace) -> None:
    """Run a stage that works image by image."""
    from wsss.job import give
    from wsss.run_shards import run_shards

    given = give(
        _settings(args, name),
        args.data,
        args.part,
        _shard(args),
        scores=getattr(args, "scores", None) or (),
        model=getattr(args, "model", None),
        device=args.device,
        workers=number(args.workers, "--workers", least=1),
        loaders=number(args.loaders, "--loaders", least=0),
        batch=None if args.batch == "auto" else number(args.batch, "--batch", least=1, of="images, or auto"),
        deterministic=args.deterministic,
    )
    run_shards(STAGES[name], given, args.out)


def _run_training(name: str, args: Namespace) -> None:
    """Run a stage that trains a network."""
    from wsss.job import give
    from wsss.run_training import run_training

    settings = _settings(args, name)
    _check_weights(name, settings, args.weights or [])
    given = give(
        settings,
        args.data,
        "train",
        scores=getattr(args, "scores", None) or (),
        masks=getattr(args, "masks", None) or None,
        device=args.device,
        deterministic=args.deterministic,
    )
    minutes = _minutes(args.checkpoint_minutes, "--checkpoint-minutes")
    loaders = number(args.loaders, "--loaders", least=0)
    run_training(STAGES[name], given, args.out, loaders, minutes, args.compile)


def _check_weights(name: str, settings: Any, given: list[str]) -> None:
    """Refuse a training whose settings name a weight file that its command line does not."""
    for path in stages.weights_read(name, settings):
        if path not in given and not path.startswith(INSTALLED):
            raise WsssError(f"give --weights {path}: the settings name this file, and the job's record has to, too")


for _name, _stage in STAGES.items():
    if _name in (*TRAINED, *IN_SHARDS):
        _register_stage(_name, _stage)


@command("submission", CONFIG, DATA, Argument("--masks", "mask shards", IN, many=True), FILE)
def _submission(args: Namespace) -> None:
    """Pack predictions as the archive that the VOC test server takes, and check it."""
    from wsss.job import give
    from wsss.segment.submission import submission

    submission(give(_settings(args, "submission"), args.data, "test", masks=args.masks), args.out)


@command(
    "measure",
    CONFIG,
    DATA,
    Argument("--stage", f"stage whose result is measured: {', '.join(MEASURED)}"),
    Argument("--images", "role of the images: measured or val"),
    *(Argument(f"--{kind}", f"{kind[:-1]} shards", IN, True, (), False) for kind in ("scores", "masks", "instances")),
    FILE,
)
def _measure(args: Namespace) -> None:
    """Compare a stage's result with ground truth."""
    from wsss.job import give
    from wsss.measure.stage import measure

    if args.stage not in MEASURED:
        raise WsssError(f"--stage {args.stage}: choose one of {', '.join(MEASURED)}")
    makes = STAGES[args.stage].makes
    kinds = [kind for kind in ("scores", "masks", "instances") if getattr(args, kind)]
    if kinds != [makes]:
        raise WsssError(f"--stage {args.stage}: give its --{makes}, and no other shards")
    results = {makes: getattr(args, makes)}
    if folders := [path for path in results[makes] if Path(path).is_dir()]:
        cure = "give the files in it (*.npz)"
        if makes == "masks":
            cure = "give the zip files in it, or pack its PNGs, named <id>.png, into one zip without folders"
        raise WsssError(f"--{makes} {folders[0]}: is a folder; {cure}")
    given = give(_settings(args, "measure"), args.data, args.images, **results)
    measure(given, args.stage, args.images, args.out)


# ---- reporting


@command("table", DRAWING, METRICS, FOLDER)
def _table(args: Namespace) -> None:
    """Write one table of a paper as CSV, Markdown, LaTeX and HTML."""
    from wsss.report.tables import write_table

    write_table(read_yaml(args.drawing), Path(args.out))


@command("judge", DRAWING, METRICS, FOLDER)
def _judge(args: Namespace) -> None:
    """Judge claims and write them as CSV, Markdown, LaTeX, HTML, and as a forest plot."""
    from wsss.report.claims import write_claims

    write_claims(read_yaml(args.drawing), Path(args.out))


@command("figure", DRAWING, Argument("--inputs", "files that are drawn", IN, True, (), False), FOLDER)
def _figure(args: Namespace) -> None:
    """Draw one figure as PDF, PNG and HTML."""
    from wsss.report.figures import draw_figure

    draw_figure(read_yaml(args.drawing), Path(args.out))


@command(
    "page",
    Argument("--config", "configuration of the workflow", IN),
    Argument("--dataset", "data set whose tables and figures it shows"),
    Argument("--inputs", "records of what the page shows", IN, True, (), False),
    FILE,
)
def _page(args: Namespace) -> None:
    """Write one self-contained HTML page with all claims, tables and figures and the state of each."""
    from wsss.report.page import write_page

    write_page(_outline(args.config, args.dataset), Path(args.out))


@functools.cache
def _outline(config: str, dataset: str) -> dict[str, Any]:
    """Return the contents of the page."""
    from wsss.plan.configuration import load_plan
    from wsss.plan.state import page

    return page(load_plan(config), dataset)


def inputs_found(name: str, args: Namespace, config: dict[str, Any] | None) -> list[str]:
    """Return the files that a job reads and its command line does not name.

    Args:
        name: the command.
        args: its arguments.
        config: its settings.
    """
    if name == "index":
        from wsss.provenance.sources import sources

        if not isinstance(config, dict):
            raise WsssError(f"{args.config}: holds no settings; give the config.yaml in the folder of an index")
        return sources(config)
    if name == "page":
        from wsss.report.reading import files_read

        return files_read(_outline(args.config, args.dataset))
    return []


# ---- official weights


@command("export-weights", CONFIG, DATA, MODEL, FILE)
def _export_weights(args: Namespace) -> None:
    """Write a trained classifier, AffinityNet or IRNet as a file that its authors' code loads."""
    from wsss.backbones import export_weights
    from wsss.cam import load_method
    from wsss.data.index import Dataset
    from wsss.refine import affinity_net, irn_net

    config = _with_official_weights(args)
    network: Any
    if config["stage"] == "irn_train":
        network = irn_net.load(config["irn_train"], args.model)
    elif config["stage"] == "affinity":
        network = affinity_net.load(config, args.model)
    else:
        classes = Dataset.load(args.data).classes
        network = load_method(config, len(classes), args.model).complete()
    kind = getattr(network, "weights_kind", None)
    if kind is None:
        raise WsssError(
            f"{args.config}: the authors of this network published no weights, so there is no format to write"
        )
    export_weights(network, kind, args.out)


@command(
    "import-weights",
    CONFIG,
    Argument("--data", "folder of the data set's index; a classifier needs it", IN, required=False),
    Argument("--weights", "the authors' file of trained weights", IN),
    FOLDER,
)
def _import_weights(args: Namespace) -> None:
    """Read the authors' trained classifier, AffinityNet or IRNet in place of a training, and list what did not fit."""
    from wsss import methods
    from wsss.backbones import without_weights
    from wsss.data.index import Dataset
    from wsss.refine import affinity_net, irn_net
    from wsss.train import adopt

    config = without_weights(_with_official_weights(args))
    network: Any
    if config["stage"] == "irn_train":
        network = irn_net.build(config["irn_train"])
    elif config["stage"] == "affinity":
        network = affinity_net.build(config, initial=False)
    elif args.data:
        classes = Dataset.load(args.data).classes
        network = methods.build(config, len(classes))
    else:
        raise WsssError("--data is missing: a classifier has its number of classes from the data set's index")
    out = Path(args.out)
    adopt(network, args.weights, out)
    report = read_json(out / "training.json")
    for kind in ("missing", "unexpected"):
        for name in report[kind]:
            print(f"{kind}: {name}")


def _with_official_weights(args: Namespace) -> Any:
    """Read the settings of a stage whose authors publish weights; the stage decides the kind of weight file."""
    config = read_yaml(args.config)
    known = [name for name in TRAINED if name != "deeplab"]
    if not isinstance(config, dict) or config.get("stage") not in known:
        raise WsssError(f"{args.config}: give the config.yaml of one of these stages: {', '.join(known)}")
    return checked(args.config, config)


# ---- arguments


def _settings(args: Namespace, stage: str) -> Any:
    """Read the settings of a stage. Those of another stage are refused."""
    config = read_yaml(args.config)
    found = config.get("stage") if isinstance(config, dict) else None
    if found != stage:
        said = f"is of stage '{found}', not '{stage}'" if found else "names no stage"
        raise WsssError(f"{args.config}: {said}; give the config.yaml in the folder of stage {stage}")
    return checked(args.config, config)


def checked(path: str, config: dict[str, Any]) -> Any:
    """Return the settings of a stage; refuse a wrong value and a section that is missing, as the workflow does."""
    from wsss.plan.layers import line_of
    from wsss.settings.check import check
    from wsss.settings.sections import Sections

    try:
        sections = stages.sections(config["stage"], config)
    except KeyError as error:  # a section that says which others are needed
        sections = list(error.args)
    except (AttributeError, TypeError):  # a section is no mapping, which the check says
        sections = list(config)
    others = Sections.__annotations__.keys() - set(sections)  # those of other stages are not read
    for finding in check({key: value for key, value in config.items() if key not in others}):
        raise WsssError(f"{path}: {finding} (line {line_of(path, finding.path)})")
    for key in ("seed", "dataset", *sections):
        if key not in config:
            raise WsssError(f"{path}: '{key}' is missing; the config.yaml in the folder of a stage has it")
    return config


def _shard(args: Namespace) -> tuple[int, int]:
    """Read ``--shard``."""
    try:
        i, n = map(int, args.shard.split("/"))
    except ValueError:
        raise WsssError(f"--shard {args.shard}: give it as i/n, for example 0/4") from None
    if not 0 <= i < n:
        raise WsssError(f"--shard {args.shard}: i runs from 0 to n - 1")
    return i, n


def _minutes(text: str, option: str) -> float:
    """Read the value of an option that is a number of minutes."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < math.inf:
        raise WsssError(f"{option} {text}: give a number of minutes, 0 or more")
    return minutes
