"""Every stage of the pipeline as a command, in pipeline order. The rules run exactly these.

Each imports what it needs when it runs: ``wsss targets`` must not wait for torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

from wsss.errors import WsssError, choose
from wsss.files import read_json, read_yaml
from wsss.plan import stages
from wsss.registry import IN, OUT, Argument, command

# the section that a command's settings have and those of the stage before lack, where it is not called as the command
SECTIONS = {"irn-labels": "irn", "irnet": "irn", "irn-instances": "irn", "deeplab": "segment"}
CONFIG = Argument("--config", "resolved settings of this stage (config.yaml in its folder)", IN)
DATA = Argument("--data", "folder of the data set's index", IN)
OUTPUT = Argument("--out", "what to write", OUT)
PART = Argument("--part", "images to work on: seed, rest, val or test", default="seed", required=False)
SHARD = Argument("--shard", "i/n: the i-th of n equal parts of them, counted from 0", default="0/1", required=False)
DEVICE = Argument("--device", "auto, cpu, cuda, or cuda:<number of GPUs>", default="auto", required=False)
WORKERS = Argument("--workers", "processes for work on the CPU", default="1", required=False)
SCORES = Argument("--scores", "score shards", IN, many=True)
MASKS = Argument("--masks", "mask shards", IN, many=True, required=False)
CRF_SCORES = Argument("--scores", "score shards of the CRF; official weights need none", IN, many=True, required=False)
MODEL = Argument("--model", "model.pt of the step before", IN)
WEIGHTS = Argument("--weights", "models and weight files that the settings name", IN, many=True, required=False)
PLAN = Argument("--plan", "what to draw up, as written by the rule", IN)
METRICS = Argument("--metrics", "metrics files it reads", IN, many=True, required=False)


# ---- data


@command("download", Argument("name", "voc2012, sbd or voc2012-test"), Argument("--out", "folder to unpack into"))
def _download(args) -> None:
    """Fetch, verify and unpack a public data set; an interrupted download goes on where it stopped."""
    from wsss.data import download

    download.fetch(args.name, Path(args.out))


@command("augment", Argument("--voc", "VOC2012 folder", IN), Argument("--sbd", "SBD folder", IN), OUTPUT)
def _augment(args) -> None:
    """Derive VOC's train_aug list and masks from VOC 2012 and SBD."""
    from wsss.data import download

    download.augment(Path(args.voc), Path(args.sbd), Path(args.out))


@command("index", CONFIG, OUTPUT)
def _index(args) -> None:
    """Build a data set's index table and check every file it names."""
    from wsss import data

    data.build(read_yaml(args.config), Path(args.out))


# ---- classifier


@command("train", CONFIG, DATA, OUTPUT, WEIGHTS, DEVICE)
def _train(args) -> None:
    """Train a method's networks on image-level labels."""
    import torch

    from wsss.backbones import initial
    from wsss.data.samples import ClassificationSamples
    from wsss.methods import build
    from wsss.train import fit

    config, dataset = _settings(args), _images(args, role="train")
    torch.manual_seed(config["seed"])
    method = build(initial(config, config["train"]), len(dataset.classes))
    samples = ClassificationSamples(dataset, config["train"], method.backbone.input)
    fit(method, samples, config["train"], config, args.out, args.device)


@command("export-weights", CONFIG, DATA, MODEL, OUTPUT)
def _export_weights(args) -> None:
    """Write a trained classifier, AffinityNet or IRNet as a file that its authors' code loads."""

    from wsss.backbones import export_weights
    from wsss.data.index import Dataset
    from wsss.localize import load_method
    from wsss.refine import affinity, irn_net

    config = _with_official_weights(args)
    if "irn" in config:
        network = irn_net.load(config["irn"], args.model)
    elif "affinity" in config:
        network = affinity.load(config, args.model)
    else:
        network = load_method(config, len(Dataset.load(args.data).classes), args.model).complete()
    export_weights(network, network.weights_kind, args.out)


@command(
    "import-weights",
    CONFIG,
    Argument(
        "--data", "folder of the data set's index, which says how many classes a classifier has", IN, False, None, False
    ),
    Argument("--weights", "the authors' file of trained weights", IN),
    OUTPUT,
)
def _import_weights(args) -> None:
    """Read the authors' trained classifier, AffinityNet or IRNet in place of a training, and list what did not fit."""
    from wsss import methods
    from wsss.backbones import without_weights
    from wsss.data.index import Dataset
    from wsss.refine import affinity, irn_net
    from wsss.train import adopt

    config = without_weights(_with_official_weights(args))
    if "irn" in config:
        network = irn_net.build(config["irn"])
    elif "affinity" in config:
        network = affinity.build(config, initial=False)
    elif args.data:
        network = methods.build(config, len(Dataset.load(args.data).classes))
    else:
        raise WsssError("--data is missing: a classifier has its number of classes from the data set's index")
    out = Path(args.out)
    adopt(network, args.weights, out)
    report = read_json(out / "training.json")
    for what in ("missing", "unexpected"):
        for name in report[what]:
            print(f"{what}: {name}")


@command("localize", CONFIG, DATA, MODEL, OUTPUT, PART, SHARD, DEVICE)
def _localize(args) -> None:
    """Compute CAM scores of images with a trained method."""
    from wsss.localize import localize

    localize(_settings(args), _images(args), args.model, _shard(args), args.out, args.device)


# ---- refinement


@command("crf", CONFIG, DATA, SCORES, OUTPUT, PART, SHARD, WORKERS)
def _crf(args) -> None:
    """Refine scores with a dense CRF, once per background exponent."""
    from wsss.refine.crf import crf_stage

    crf_stage(_settings(args), _images(args), args.scores, args.out, _shard(args), _workers(args))


@command("affinity", CONFIG, DATA, CRF_SCORES, OUTPUT, WEIGHTS, DEVICE)
def _affinity(args) -> None:
    """Train AffinityNet on the confident areas of the CRF results."""
    from wsss.refine.affinity import affinity_stage

    affinity_stage(_settings(args), _images(args, role="train"), args.scores or (), args.out, args.device)


@command("walk", CONFIG, DATA, SCORES, MODEL, OUTPUT, PART, SHARD, DEVICE, WORKERS)
def _walk(args) -> None:
    """Turn scores into pseudo masks by a random walk over the learned affinities."""
    from wsss.refine.walk import walk_stage

    config, paths = _settings(args), (args.scores, args.model, args.out)
    walk_stage(config, _images(args), *paths, _shard(args), args.device, _workers(args))


@command("irn-labels", CONFIG, DATA, SCORES, OUTPUT, PART, SHARD, WORKERS)
def _irn_labels(args) -> None:
    """Mark confident foreground and background for IRNet."""
    from wsss.refine.irn_labels import irn_labels_stage

    irn_labels_stage(_settings(args), _images(args), args.scores, args.out, _shard(args), _workers(args))


@command("irnet", CONFIG, DATA, MASKS, OUTPUT, WEIGHTS, DEVICE)
def _irnet(args) -> None:
    """Train IRNet's boundary and displacement branches on these marks."""
    from wsss.refine.irn_train import irnet_stage

    irnet_stage(_settings(args), _images(args, role="train"), args.masks or (), args.out, args.device)


@command("irn", CONFIG, DATA, SCORES, MODEL, OUTPUT, PART, SHARD, DEVICE)
def _irn(args) -> None:
    """Turn scores into pseudo masks by propagation up to IRNet's boundaries."""
    from wsss.refine.irn_walk import irn_walk_stage

    irn_walk_stage(_settings(args), _images(args), args.scores, args.model, args.out, _shard(args), args.device)


@command("irn-instances", CONFIG, DATA, SCORES, MODEL, OUTPUT, PART, SHARD, DEVICE)
def _irn_instances(args) -> None:
    """Find instances: groups of areas whose displacements lead to the same centroid."""
    from wsss.refine.irn_instances import irn_instances_stage

    paths = (args.scores, args.model, args.out)
    irn_instances_stage(_settings(args), _images(args), *paths, _shard(args), args.device)


# ---- segmentation


@command("deeplab", CONFIG, DATA, MASKS, OUTPUT, WEIGHTS, DEVICE)
def _deeplab(args) -> None:
    """Train a DeepLab on pseudo masks, or on ground truth for the upper bound."""
    from wsss.segment import segment_stage

    segment_stage(_settings(args), _images(args, role="train"), args.masks or None, args.out, args.device)


@command("predict", CONFIG, DATA, MODEL, OUTPUT, PART, SHARD, DEVICE, WORKERS)
def _predict(args) -> None:
    """Segment images with a trained DeepLab."""
    from wsss.segment import predict_stage

    config, images = _settings(args), _images(args)
    predict_stage(config, images, args.model, args.out, _shard(args), args.device, _workers(args))


@command("submission", DATA, Argument("--masks", "mask shards", IN, many=True), OUTPUT)
def _submission(args) -> None:
    """Pack predictions as the archive that the VOC test server takes, and check it."""
    from wsss.data.index import Dataset
    from wsss.segment.submission import submission

    submission(args.masks, Dataset.load(args.data).split("test"), args.out)


# ---- measuring and reporting


@command(
    "measure",
    CONFIG,
    DATA,
    *(Argument(f"--{kind}s", f"{kind} shards", IN, True, (), False) for kind in ("score", "mask", "instance")),
    OUTPUT,
    PART,
)
def _measure(args) -> None:
    """Compare scores, masks or instances with ground truth."""
    from wsss.measure import measure_stage

    results = (args.scores or None, args.masks or None, args.instances or None)
    measure_stage(_settings(args), _images(args), args.out, *results)


@command("table", PLAN, METRICS, OUTPUT)
def _table(args) -> None:
    """Write one table of a paper as CSV, Markdown, LaTeX and HTML."""
    from wsss.report import write_table

    write_table(read_yaml(args.plan), Path(args.out))


@command("figure", PLAN, Argument("--inputs", "files it draws", IN, True, (), False), OUTPUT)
def _figure(args) -> None:
    """Draw one figure as PDF and PNG."""
    from wsss.report import draw_figure

    draw_figure(read_yaml(args.plan), Path(args.out))


@command(
    "page",
    Argument("--config", "configuration of the workflow", IN),
    Argument("--dataset", "data set whose tables and figures it shows"),
    Argument("--inputs", "records of what it shows", IN, True, (), False),
    OUTPUT,
)
def _page(args) -> None:
    """Write one self-contained HTML page with all tables and figures and the state of each."""
    from wsss.plan.configuration import load_plan
    from wsss.plan.state import page
    from wsss.report import write_page

    write_page(page(load_plan(args.config), args.dataset), Path(args.out))


@command(
    "targets",
    Argument("--config", "configuration file, if not the project's own config.yaml", required=False),
    Argument("--dataset", "data set, if not the configured one", required=False),
)
def _targets(args) -> None:
    """List every table and figure that can be asked for, and its state."""
    from wsss.plan.configuration import load_plan
    from wsss.plan.cost import WIDTH
    from wsss.plan.state import listing

    plan = load_plan(args.config)
    dataset = args.dataset or plan.config["dataset"]
    plan.check(dataset)
    rows = listing(plan, dataset)
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    for *words, how in rows:
        head = "  ".join(f"{word:<{width}}" for word, width in zip(words, wide, strict=True))
        print(f"{head}  {how}" if len(head) + 2 + len(how) <= WIDTH else f"{head.rstrip()}\n    {how}")


@command(
    "cost",
    Argument("names", "tables, figures and papers, as seam_table2; none: what is made by default", many=True),
    Argument("--config", "configuration file, if not the project's own config.yaml", required=False),
    Argument("--dataset", "data set, if not the configured one", required=False),
)
def _cost(args) -> None:
    """Say what has to be computed before tables and figures can be written: trainings, images, time if known."""
    from wsss.plan import cost, drawings
    from wsss.plan.configuration import load_plan

    plan = load_plan(args.config)
    dataset = args.dataset or plan.config["dataset"]
    plan.check(dataset)
    names = drawings.chosen(plan, dataset, args.names) or drawings.default(plan, dataset)
    print(cost.describe(plan, dataset, names) or "Nothing has to be computed.", flush=True)
    if lacking := cost.lacking(plan, dataset, names):
        raise WsssError(f"weights are missing: {', '.join(lacking)}; see README, Weights")


# ---- lineage


@command("audit", Argument("target", "a result: a file of any stage, or a table or figure by name"))
def _audit(args) -> None:
    """Re-hash everything a result rests on; name what does not match and exit with 1."""
    from wsss.provenance.audit import audit, describe

    target = args.target if Path(args.target).exists() else _made_as(args.target)
    seen = audit(target)
    print(describe(target, seen))
    if seen.findings:
        sys.exit(1)


def _made_as(name: str) -> str:
    """The record of a table or figure of the configured data set; what has another name stays as it is."""
    from wsss.plan import drawings
    from wsss.plan.configuration import load_plan

    plan = load_plan()
    folders = {name: folder for name, _, folder in drawings.targets(plan, plan.config["dataset"])}
    return f"{folders[name]}/record.json" if name in folders else name


def _with_official_weights(args) -> dict:
    """The settings of a stage whose authors publish weights; they say of which kind."""
    config = read_yaml(args.config)
    if "segment" in config:
        raise WsssError(f"{args.config}: no official format is known for a DeepLab; give train, affinity or irnet")
    return config


def _settings(args) -> dict:
    """The settings of a stage, with all weights that they name among the command's inputs."""
    config, section = read_yaml(args.config), SECTIONS.get(args.command, args.command)
    if not isinstance(config, dict) or section not in config:
        raise WsssError(f"{args.config}: has no section '{section}'; give the config.yaml in the folder of this stage")
    if "weights" in args:
        for path in stages.weights_read(args.command, config):
            if path not in (args.weights or ()):
                raise WsssError(f"--weights {path} is missing: the settings name it, and the record of the job must")
    return config


def _images(args, role: str | None = None):
    """The images of a part (or role) of the data set that the stage's settings name."""
    from wsss.data.index import Dataset

    dataset = Dataset.load(args.data)
    part = role or args.part
    if part == "test":
        return dataset.split(part)
    splits = read_yaml(args.config)["dataset"]["splits"]
    if part == "rest":
        return dataset.split(splits["train"]).without(dataset.split(splits["seed"]))
    return dataset.split(choose(splits, part, "part"))


def _shard(args) -> tuple[int, int]:
    try:
        i, n = (int(number) for number in args.shard.split("/"))
    except ValueError:
        raise WsssError(f"--shard {args.shard}: give it as i/n, for example 0/4") from None
    if not 0 <= i < n:
        raise WsssError(f"--shard {args.shard}: i runs from 0 to n - 1")
    return i, n


def _workers(args) -> int:
    if not (args.workers.isdecimal() and int(args.workers)):
        raise WsssError(f"--workers {args.workers}: give a number of processes, 1 or more")
    return int(args.workers)
