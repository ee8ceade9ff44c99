"""The one training loop: every classifier, AffinityNet, IRNet and DeepLab go through ``fit``.

Every random draw is a function of (seed, step): the order of the images, each sample's augmentation and torch's own
generator, which is seeded anew at each step. So a run that was killed and resumed gives the same bytes as one that was
not, whatever the number of loader processes: on a CPU always, on a GPU with deterministic kernels.

Several processes (GPUs) share each batch, B images. Each has a contiguous part of it and its losses are weighted by its
share, so their gradients add up to those of the batch where a loss is a mean over images. Where it is none, as a ratio
of sums over the batch, it is one of each part; batch norms see their part, too, and dropout draws anew for each.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from wsss import devices
from wsss.backbones.base import Backbone
from wsss.backbones.models import save_model, save_state
from wsss.backbones.weights import import_weights, load_whole
from wsss.children import Watched
from wsss.errors import Stopped, WsssError
from wsss.files import digest, write_json
from wsss.loaders import Loaded, collate, start_loader, want_of_memory
from wsss.loss_log import LossLog
from wsss.progress import bar
from wsss.provenance import ledger
from wsss.schedule import Progress, Schedule
from wsss.scored import Choice, Scored
from wsss.stopping import OnStop

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.optim import Optimizer

    from wsss.groups import ParameterGroup
    from wsss.settings import sections

CHECKPOINT_MINUTES = 15.0  # between two checkpoints
LOG_EVERY = 10  # steps between two looks at the losses, the only points where the host waits for the device


class Batch(TypedDict):
    """A batch as all tasks get it: the ids of B images, and the images ``B×3×H×W``, normalised for the backbone."""

    id: list[str]
    image: Tensor


class LabelledBatch(Batch):
    """A batch with image-level labels ``B×C`` of 0 and 1."""

    labels: Tensor


class MaskedBatch(Batch):
    """A batch with label maps ``B×h×w`` (255 ignore)."""

    label: Tensor


class Samples(Protocol):
    """The samples that a task is trained on. All randomness of a sample comes from ``rng``."""

    def __len__(self) -> int: ...

    def get(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """Return the sample of an image: its ``id``, tensors and arrays; those of one name have one size."""


class Task(Protocol):
    """A module that the loop can train. See ``docs/architecture.md``, Task.

    A task that the authors' weight files fit also has ``weights_kind``, their kind (``backbones.naming.KINDS``).
    """

    @property
    def phases(self) -> tuple[str, ...]:
        """The names of its phases. Each has an optimizer of its own."""

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        """Group the parameters that ``phase`` trains."""

    def active_phases(self, progress: Progress) -> tuple[str, ...]:
        """Name the phases that update at this step, in order."""

    def losses(self, batch: Any, phase: str, progress: Progress) -> dict[str, Tensor]:
        """Compute named, already weighted scalars whose sum ``phase`` minimises. ``batch`` is a :class:`Batch`."""

    def state_dict(self) -> dict[str, Any]:
        """Return all tensors, by name."""


class Training(NamedTuple):
    """A training that is set up.

    Args:
        task: the module to train.
        samples: what it is trained on; None where ``train["weights"]`` names a file to read instead.
        train: the options of the loop.
        finish: what is left to do to the trained task before it is written.
        choice: how the epoch that is kept is chosen; None keeps the last.
    """

    task: Task
    samples: Samples | None
    train: sections.Loop
    finish: Callable[[Any], None] | None = None
    choice: Choice | None = None


def poly(step: int, steps: float, power: float) -> float:
    """Compute the learning rate factor ``(1 - step / steps)^power``; from ``steps`` on it stays at its last value."""
    return (1 - min(step, steps - 1) / steps) ** power


def build_optimizer(groups: list[ParameterGroup], settings: sections.Optimizer) -> Optimizer:
    """Make SGD over a task's parameter groups; ``lr_scale`` and ``decay_scale`` multiply the base values."""
    lr, decay = settings["lr"], settings["weight_decay"]
    scaled: list[dict[str, Any]] = [
        {"params": list(g["params"]), "lr": lr * g["lr_scale"], "weight_decay": decay * g["decay_scale"]}
        for g in groups
    ]
    scaled = [{**g, "base_lr": g["lr"]} for g in scaled if g["params"]]
    return torch.optim.SGD(scaled, lr=lr, momentum=settings["momentum"])


def scale_learning_rates(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its base value."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def make_fabric(device: str, precision: str) -> Fabric:
    """Make the fabric for ``device``: auto, cpu, cuda, cuda:<n> or cpu:<n>, where n > 1 processes train together."""
    from lightning_fabric import Fabric  # takes seconds to load, which the other stages are spared
    from lightning_fabric.plugins.environments import LightningEnvironment

    name, count = devices.find(device)
    its_name: Any = devices.PRECISION[precision]  # of the precision
    return Fabric(
        accelerator=name,
        devices=count,
        strategy="ddp_find_unused_parameters_true" if count > 1 else "auto",
        precision=its_name,
        plugins=LightningEnvironment(),  # also inside a Slurm allocation: Snakemake starts the jobs, not srun
    )


def fit(
    training: Training,
    settings: Mapping[str, Any],
    out_dir: Path | str,
    device: str = "auto",
    loaders: int = 0,
    checkpoint_minutes: float | None = None,
    deterministic: bool = False,
    compiled: bool = False,
) -> Path:
    """Train and write ``model.pt`` (the task's state dict), ``losses.csv`` and ``training.json``.

    Where ``train["weights"]`` names a file of the authors' trained weights, it is read instead (see :func:`adopt`).
    Where ``train["start"]`` names a file, the whole task starts from it (see :func:`start_from`).

    Args:
        training: the task, its samples and the options of the loop.
        settings: the resolved settings of the stage. ``seed`` is read; all of them tell a checkpoint from another's.
        out_dir: also holds ``checkpoint.pt`` while training runs; a run that finds one of its settings goes on from it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number of GPUs>``; ``cpu:<n>`` trains in n processes.
        loaders: number of processes that load samples; with 0 the training loads them itself. It changes no result.
        checkpoint_minutes: time between two checkpoints. It changes no result.
        deterministic: a GPU uses only kernels that give the same bits each time; a CPU always does.
        compiled: ``torch.compile`` the backbones; it changes the last bits.

    Raises:
        Stopped: SIGTERM or SIGINT (Ctrl-C) came; the checkpoint is written.
        ChildDied: a loader process died.
        WsssError: a loss is not finite, there is nothing to train on, or a weight file does not fit.
    """
    task, samples, train, finish, choice = training
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    if train["weights"]:
        return adopt(task, train["weights"], out_dir)
    if samples is None or len(samples) == 0:
        raise WsssError(f"{out_dir}: there is no training image; check the split and the step before")
    schedule = Schedule(len(samples), train)
    fabric = make_fabric(device, train["precision"])
    fabric.launch()
    devices.choose_kernels(fabric.device, deterministic, fixed_shapes=True)
    seed: int = settings["seed"]
    if train["start"]:
        start_from(task, train["start"])
    torch.manual_seed(seed)
    module = _module(task)
    module.to(memory_format=torch.channels_last)  # what convolutions are fastest with, on a CPU as on a GPU
    optimizers = {phase: build_optimizer(task.parameter_groups(phase), train["optimizer"]) for phase in task.phases}
    decisive = [settings, train, len(samples), type(task).__name__, ledger.basis()]
    written = digest(json.dumps(decisive, sort_keys=True, default=str))
    start = _resume(out_dir / "checkpoint.pt", module, optimizers, written)
    if start and fabric.is_global_zero:
        ledger.note("resumed", step=start, basis=ledger.basis())

    if compiled:
        compile_backbones(module)
    model, *wrapped = fabric.setup(module, *optimizers.values())
    model.mark_forward_method("losses")
    loop = _Loop(fabric, model, dict(zip(task.phases, wrapped, strict=True)), schedule, train, seed)
    log = LossLog(out_dir / f".losses.{fabric.global_rank}.csv", start, loop.may_skip)
    scored = Scored(out_dir, choice, start) if choice and fabric.is_global_zero else None
    model.train()
    patience = 60 * (CHECKPOINT_MINUTES if checkpoint_minutes is None else checkpoint_minutes)
    kept = time.monotonic()
    progress = bar(out=out_dir, unit="step", total=schedule.steps, initial=start)
    with OnStop() as stop, progress as shown, Watched("a process that loads images", want_of_memory(loaders)):
        for step, batch in enumerate(loop.loader(samples, start, loaders), start):
            for phase, losses, made in loop.step(batch, step):
                (log.add if made else log.skip)(schedule.progress(step), batch["id"], phase, losses)
            shown.update()
            done = step + 1
            if due := choice is not None and choice.due(schedule, done):
                if scored:
                    scored.add(module, done, schedule.progress(step).epoch)
                fabric.barrier()
                model.train()
            stopped = loop.agree(bool(stop), done)
            if done % LOG_EVERY == 0 or done == schedule.steps or stopped:
                shown.set_postfix({term: f"{value:.3g}" for term, value in log.flush().items()})
            overdue = loop.agree(time.monotonic() - kept >= patience, done)
            if stopped or (done < schedule.steps and (due or overdue)):
                log.flush()
                _checkpoint(fabric, out_dir / "checkpoint.pt", module, optimizers, written, done)
                kept = time.monotonic()
                if scored:
                    scored.tidy()
            if stopped:
                raise Stopped(f"stopped at step {done} of {schedule.steps}; run the same command again to go on")

    if fabric.is_global_zero:
        if scored:
            scored.restore(module)
        if finish:
            finish(task)
        _write(task, schedule, log, scored, out_dir)
    else:
        log.path.unlink()
    fabric.barrier()
    return out_dir / "model.pt"


def compile_backbones(module: nn.Module) -> None:
    """Compile the networks below the heads, in place: names of tensors stay. Around them shapes vary."""
    for part in module.modules():
        if isinstance(part, Backbone):
            part.compile(dynamic=False)


def _module(task: Task) -> nn.Module:
    """Return the task as the module that it is."""
    return cast(nn.Module, task)


def _write(task: Task, schedule: Schedule, log: LossLog, scored: Scored | None, out_dir: Path) -> None:
    """Write what a training leaves; the checkpoint goes last."""
    save_model(_module(task), out_dir / "model.pt")
    about = {"steps": schedule.steps, "images": schedule.n, "epochs": schedule.epochs, "skipped": log.skipped}
    write_json(out_dir / "training.json", {**about, "selection": scored.about() if scored else "last"})
    if log.skipped:
        print(f"{log.skipped} updates were left out: a loss was no number", file=sys.stderr)
    os.replace(log.path, out_dir / "losses.csv")
    (out_dir / "checkpoint.pt").unlink(missing_ok=True)
    if scored:
        scored.tidy(everything=True)


def adopt(task: Task, weights: str | Path, out_dir: Path) -> Path:
    """Fill ``task`` from official weights and write what a training writes; the loss log has no rows.

    The kind of file is the task's ``weights_kind``. What the file lacked or held in vain is printed, and kept in
    ``training.json``. A file that lacks what the task needs is an error of one line.
    """
    kind = getattr(task, "weights_kind", None)
    if kind is None:
        raise WsssError(f"{weights}: no official format is known for this network; set train.weights to null")
    report = import_weights(weights, _module(task), kind)
    print(f"{weights}: official weights '{kind}' instead of a training; {report}", file=sys.stderr)
    LossLog(out_dir / "losses.csv", 0)  # the head alone: there are no losses
    unused = {"missing": report.missing, "unexpected": report.unexpected}
    write_json(out_dir / "training.json", {"weights": str(weights), "kind": kind, **unused})
    return save_model(_module(task), out_dir / "model.pt")


def start_from(task: Task, weights: str | Path) -> None:
    """Fill the whole ``task``, heads included, from a ``model.pt`` or from a file of the authors' weights.

    Parts that the task names in ``new_parts`` keep their own weights where the file lacks them.

    Raises:
        WsssError: the file cannot be read, or its tensors differ from those of the task in name or shape; the line
            names the first one.
    """
    module, kind = _module(task), getattr(task, "weights_kind", None)
    report = load_whole(module, weights, kind, getattr(task, "new_parts", ()))
    if report:
        print(f"{weights}: official weights '{kind}' to start from; {report}", file=sys.stderr)


class _Loop:
    """The objects that one step needs, apart from where its results go."""

    def __init__(
        self,
        fabric: Fabric,
        model: Any,
        optimizers: Mapping[str, Any],
        schedule: Schedule,
        train: sections.Loop,
        seed: int,
    ):
        self.fabric, self.model, self.optimizers = fabric, model, optimizers
        self.schedule, self.train, self.seed = schedule, train, seed
        self.power = train["optimizer"]["poly_power"]
        self.may_skip = int(train["may_skip"] * schedule.steps)
        self.share = 1.0  # of this process in the loss of the batch, times the number of processes
        world = fabric.world_size
        self.parts = train["accumulate"] // world if train["accumulate"] % world == 0 else train["accumulate"]

    def loader(self, samples: Samples, start: int, processes: int) -> Iterator[dict[str, Any]]:
        """Yield the batches from step ``start`` on, this process's part of each, and its ``share`` of the loss."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        batches, shares = [], []
        for batch in self.schedule.batches(self.seed, start):
            part = batch[part_of(len(batch), rank, world)]
            batches.append(part or batch[:1])  # the last of an epoch may be too few for all: then it counts nothing
            shares.append(len(part) * world / len(batch))
        loader = DataLoader(
            Loaded(samples, self.seed),
            batch_sampler=batches,
            num_workers=processes,
            collate_fn=collate,
            worker_init_fn=functools.partial(start_loader, os.getpid()),
            pin_memory=self.fabric.device.type == "cuda",
        )
        loaded: Any = self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)
        for batch, share in zip(loaded, shares, strict=True):
            if isinstance(batch, WsssError):
                raise batch
            self.share = share
            yield batch

    def agree(self, stop: bool, done: int) -> bool:
        """Tell whether to stop after ``done`` steps. Of several processes it is any; they are asked every few steps."""
        if self.fabric.world_size == 1:
            return stop
        if done % LOG_EVERY:
            return False
        asked = torch.tensor(float(stop), device=self.fabric.device)
        return bool(self.fabric.all_reduce(asked, reduce_op="sum"))

    def finite(self, total: Tensor) -> bool:
        """Tell whether a loss is a number; of several processes, whether all are."""
        wrong: Any = self.fabric.all_reduce((~total.detach().isfinite()).float(), reduce_op="sum")
        return not bool(wrong)

    def together(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of the whole batch: of several processes the mean, by their shares."""
        if self.fabric.world_size == 1:
            return losses
        mine = torch.stack([value.float() for value in losses.values()]) * self.share
        mean: Any = self.fabric.all_reduce(mine, reduce_op="mean")
        return dict(zip(losses, mean, strict=True))

    def step(self, batch: dict[str, Any], step: int) -> Iterator[tuple[str, dict[str, Tensor], bool]]:
        """Yield one update of every active phase; yields (phase, losses, made).

        Where steps may be left out (``may_skip``), an update with a loss that is no number is not made. This asks the
        host to wait for the device at every update.
        """
        torch.manual_seed(int(np.random.SeedSequence([self.seed, step, self.fabric.global_rank]).generate_state(1)[0]))
        progress = self.schedule.progress(step)
        factor = poly(step, self.schedule.poly_steps, self.power)
        for phase in self.model.active_phases(progress):
            optimizer = self.optimizers[phase]
            scale_learning_rates(optimizer, factor)
            optimizer.zero_grad(set_to_none=True)
            micro_batches = split(batch, self.parts)
            means: dict[str, Any] = {}
            made = True
            for i, micro_batch in enumerate(micro_batches, start=1):
                with self.fabric.no_backward_sync(self.model, enabled=i < len(micro_batches)):
                    with self.fabric.autocast():
                        losses = self.model.losses(micro_batch, phase, progress)
                    total = sum(losses.values())
                    for term, value in losses.items():
                        means[term] = means.get(term, 0) + value.detach() / len(micro_batches)
                    if self.may_skip and not self.finite(total):
                        made = False
                        break
                    self.fabric.backward(total / len(micro_batches) * self.share)
            if made:
                optimizer.step()
            yield phase, self.together(means), made


def part_of(size: int, rank: int, world: int) -> slice:
    """Return the images of a batch that one of ``world`` processes has; nearly as many for each."""
    return slice(size * rank // world, size * (rank + 1) // world)


def split(batch: dict[str, Any], parts: int) -> list[dict[str, Any]]:
    """Cut a batch into ``parts`` nearly equal micro-batches."""
    size = len(batch["id"])
    bounds = np.linspace(0, size, min(parts, size) + 1).astype(int)
    return [{key: value[a:b] for key, value in batch.items()} for a, b in pairwise(bounds)]


def _checkpoint(
    fabric: Fabric, path: Path, task: nn.Module, optimizers: dict[str, Optimizer], settings: str, step: int
) -> None:
    if fabric.is_global_zero:
        states = {phase: optimizer.state_dict() for phase, optimizer in optimizers.items()}
        save_state({"step": step, "settings": settings, "model": task.state_dict(), "optimizers": states}, path)
    fabric.barrier()


def _resume(path: Path, task: nn.Module, optimizers: dict[str, Optimizer], settings: str) -> int:
    """Load a checkpoint of the same settings, if there is one, and return the step to go on from."""
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way; the cure is the same
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise WsssError(f"{path}: not a readable checkpoint ({why}); delete it to start again") from None
    if state["settings"] != settings:
        print(f"{path}: belongs to other settings, inputs or code, starting at step 0", file=sys.stderr)
        return 0
    task.load_state_dict(state["model"])
    for phase, optimizer in optimizers.items():
        optimizer.load_state_dict(state["optimizers"][phase])
    return int(state["step"])
