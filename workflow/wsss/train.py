"""The one training loop: every classifier, AffinityNet, IRNet and DeepLab go through ``fit``.

Every random draw is a function of (seed, step): the order of the images, each sample's augmentation and torch's own
generator, which each process seeds anew at each step. So a training that was killed and resumed gives the same bytes as
one that was not, whatever the number of loader processes: on a CPU always, on a GPU with deterministic kernels.

Several processes (GPUs) share each batch, B images. Each has a contiguous part of it and its losses are weighted by its
share, so their gradients add up to those of the batch if each loss is a mean over images. A loss that is not, such as a
ratio of sums over the batch, is computed per part. Batch norms also see only their own part, and each process draws its
own dropout.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict, cast

import numpy as np
import torch
from torch import Tensor, nn

from wsss import devices
from wsss.backbones.base import Backbone
from wsss.backbones.models import save_model
from wsss.backbones.weights import import_weights, load_whole
from wsss.checkpoints import Checkpoints
from wsss.children import Disarmed, Watched
from wsss.errors import Stopped, WsssError
from wsss.files import digest, write_json
from wsss.loaders import want_of_memory
from wsss.loop import LOG_EVERY, Loop, build_optimizer, make_fabric
from wsss.loss_log import LossLog
from wsss.progress import bar
from wsss.provenance import ledger
from wsss.schedule import Progress, Schedule
from wsss.scored import Choice, Scored
from wsss.stopping import OnStop

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from wsss.groups import ParameterGroup
    from wsss.settings import sections

CHECKPOINT_MINUTES = 15.0  # between two checkpoints


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

    A task for which authors published weight files also has ``weights_kind``, the kind of these files
    (``backbones.naming.KINDS``).
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
        finish: a function that completes the trained task before it is written.
        choice: how the epoch that is kept is chosen; None keeps the last.
    """

    task: Task
    samples: Samples | None
    train: sections.Loop
    finish: Callable[[Any], None] | None = None
    choice: Choice | None = None


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
        settings: the resolved settings of the stage. ``seed`` is read; all of them decide whether a checkpoint is used.
        out_dir: the folder to write to. It also holds ``checkpoint.pt`` while training runs. A run with the same
            settings, inputs and code resumes from it.
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
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    train = training.train
    if train["weights"]:
        return adopt(training.task, train["weights"], out_dir)
    samples = _samples(training, out_dir)
    schedule = Schedule(len(samples), train)
    fabric = make_fabric(device, train["precision"])
    fabric.launch()
    devices.choose_kernels(fabric.device, deterministic, fixed_shapes=True)
    seed: int = settings["seed"]
    module, optimizers = _initialised(training, seed)
    checkpoints = Checkpoints(
        fabric,
        out_dir / "checkpoint.pt",
        module,
        optimizers,
        _basis(training, samples, settings),
        CHECKPOINT_MINUTES if checkpoint_minutes is None else checkpoint_minutes,
    )
    start = checkpoints.resume()
    if start and fabric.is_global_zero:
        ledger.note("resumed", step=start, basis=ledger.basis())
    if compiled:
        compile_backbones(module)
    model, *wrapped = fabric.setup(module, *optimizers.values())
    model.mark_forward_method("losses")
    by_phase = dict(zip(optimizers, wrapped, strict=True))
    loop = Loop(fabric, model, by_phase, schedule, train, seed)
    log = LossLog(out_dir / f".losses.{fabric.global_rank}.csv", start, loop.may_skip)
    scored = None
    if training.choice and fabric.is_global_zero:
        scored = Scored(out_dir, training.choice, start)
    steps = _Steps(loop, checkpoints, log, training.choice, scored)
    with OnStop() as stop:  # to the end: a signal that comes after the last step must not undo all of them
        steps.run(samples, start, loaders, stop)
        if fabric.is_global_zero:
            _finish(training, schedule, log, scored, out_dir)
        else:
            log.path.unlink()
        fabric.barrier()
    return out_dir / "model.pt"


# ---- before the first step


def _samples(training: Training, out_dir: Path) -> Samples:
    """Return the samples of a training; refuse one that has none."""
    samples = training.samples
    if samples is None or len(samples) == 0:
        raise WsssError(f"{out_dir}: there is no training image; check the split and the step before")
    return samples


def _initialised(training: Training, seed: int) -> tuple[nn.Module, dict[str, Optimizer]]:
    """Return the task as it is before the first step, as a module, and the optimizer of each of its phases."""
    task, train = training.task, training.train
    if train["start"]:
        start_from(task, train["start"])
    torch.manual_seed(seed)
    module = _module(task)
    module.to(memory_format=torch.channels_last)  # what convolutions are fastest with, on a CPU as on a GPU
    optimizers = {}
    for phase in task.phases:
        groups = task.parameter_groups(phase)
        optimizers[phase] = build_optimizer(groups, train["optimizer"])
    return module, optimizers


def _basis(training: Training, samples: Samples, settings: Mapping[str, Any]) -> str:
    """Return the digest of all that decides the result of a training."""
    kind = type(training.task).__name__
    decisive = [settings, training.train, len(samples), kind, ledger.basis()]
    text = json.dumps(decisive, sort_keys=True, default=str)
    return digest(text)


def compile_backbones(module: nn.Module) -> None:
    """Compile the networks below the heads, in place: names of tensors stay. The heads see shapes that vary."""
    for part in module.modules():
        if isinstance(part, Backbone):
            part.compile(dynamic=False)


def _module(task: Task) -> nn.Module:
    """Return the task as the module that it is."""
    return cast(nn.Module, task)


# ---- step by step


@dataclass(frozen=True)
class _Steps:
    """The steps of a training, and what is written after each.

    Args:
        loop: makes the updates.
        checkpoints: the state on disk.
        log: the losses.
        choice: how the epoch that is kept is chosen, if one is.
        scored: the scores of epochs; None in all processes but the first.
    """

    loop: Loop
    checkpoints: Checkpoints
    log: LossLog
    choice: Choice | None
    scored: Scored | None

    def run(self, samples: Samples, start: int, loaders: int, stop: OnStop) -> None:
        """Make all steps from ``start`` on, or those until ``stop``.

        Raises:
            Stopped: a signal came; the checkpoint is written.
        """
        total = self.loop.schedule.steps
        batches = self.loop.loader(samples, start, loaders)
        progress = bar(out=self.checkpoints.path.parent, unit="step", total=total, initial=start)
        watched = Watched("a process that loads images", want_of_memory(loaders))
        self.loop.model.train()
        with progress as shown, watched, Disarmed():
            for step, batch in enumerate(batches, start):
                self._update(batch, step)
                shown.update()
                done = step + 1
                due = self._score(done)
                stopped = self.loop.agree(bool(stop), done)
                if done % LOG_EVERY == 0 or done == total or stopped:
                    means = self.log.flush()
                    shown.set_postfix(_in_short(means))
                overdue = self.loop.agree(self.checkpoints.overdue(), done)
                if stopped or (done < total and (due or overdue)):
                    self._keep(done)
                if stopped:
                    raise Stopped(f"stopped at step {done} of {total}; run the same command again to go on")

    def _update(self, batch: dict[str, Any], step: int) -> None:
        """Make the updates of a step, and log their losses."""
        progress = self.loop.schedule.progress(step)
        for phase, losses, made in self.loop.step(batch, step):
            note = self.log.add if made else self.log.skip
            note(progress, batch["id"], phase, losses)

    def _score(self, done: int) -> bool:
        """Score the state after ``done`` steps, where that is due; tell whether it was."""
        schedule = self.loop.schedule
        if self.choice is None or not self.choice.due(schedule, done):
            return False
        if self.scored:
            epoch = schedule.progress(done - 1).epoch
            self.scored.add(self.checkpoints.module, done, epoch)
        self.loop.fabric.barrier()
        self.loop.model.train()
        return True

    def _keep(self, done: int) -> None:
        """Write the losses and the state after ``done`` steps."""
        self.log.flush()
        self.checkpoints.write(done)
        if self.scored:
            self.scored.tidy()


def _in_short(means: Mapping[str, float]) -> dict[str, str]:
    """Write losses with three significant digits."""
    return {term: f"{value:.3g}" for term, value in means.items()}


# ---- after the last step


def _finish(
    training: Training,
    schedule: Schedule,
    log: LossLog,
    scored: Scored | None,
    out_dir: Path,
) -> None:
    """Restore the epoch that is kept, do what is left to do, and write what a training leaves.

    Args:
        training: the training.
        schedule: its steps.
        log: its losses.
        scored: the scores of its epochs, if one was chosen.
        out_dir: the folder to write to. Its checkpoint is deleted when all is written.
    """
    module = _module(training.task)
    if scored:
        scored.restore(module)
    if training.finish:
        training.finish(training.task)
    save_model(module, out_dir / "model.pt")
    about = {
        "steps": schedule.steps,
        "images": schedule.n,
        "epochs": schedule.epochs,
        "skipped": log.skipped,
        "selection": scored.about() if scored else "last",
    }
    write_json(out_dir / "training.json", about)
    if log.skipped:
        print(f"{log.skipped} updates were left out: a loss was no number", file=sys.stderr)
    os.replace(log.path, out_dir / "losses.csv")
    (out_dir / "checkpoint.pt").unlink(missing_ok=True)
    if scored:
        scored.tidy(everything=True)


# ---- weights instead of a training, or to start from


def adopt(task: Task, weights: str | Path, out_dir: Path) -> Path:
    """Fill ``task`` from official weights and write what a training writes; the loss log has no rows.

    The kind of file is the task's ``weights_kind``. Tensors that the file lacks and the task can do
    without, and those that the task does not use, are printed and kept in ``training.json``. A tensor that is needed
    and missing is an error of one line.
    """
    kind = getattr(task, "weights_kind", None)
    if kind is None:
        raise WsssError(
            f"{weights}: no format of official weights of this network is known; set train.weights of its stage to null"
        )
    report = import_weights(weights, _module(task), kind)
    print(f"{weights}: official weights '{kind}' instead of a training; {report}", file=sys.stderr)
    LossLog(out_dir / "losses.csv", 0)  # the head alone: there are no losses
    about = {
        "weights": str(weights),
        "kind": kind,
        "missing": report.missing,
        "unexpected": report.unexpected,
    }
    write_json(out_dir / "training.json", about)
    return save_model(_module(task), out_dir / "model.pt")


def start_from(task: Task, weights: str | Path) -> None:
    """Fill the whole ``task``, heads included, from a ``model.pt`` or from a file of the authors' weights.

    Parts that the task names in ``new_parts`` keep their own weights where the file lacks them.

    Raises:
        WsssError: the file cannot be read, or its tensors differ from those of the task in name or shape; the line
            names the first one.
    """
    kind = getattr(task, "weights_kind", None)
    new_parts = getattr(task, "new_parts", ())
    report = load_whole(_module(task), weights, kind, new_parts)
    if report:
        print(f"{weights}: official weights '{kind}' to start from; {report}", file=sys.stderr)
