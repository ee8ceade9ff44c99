"""The steps of a training: the batches in their order, and the updates that each of them makes."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from wsss import devices
from wsss.errors import WsssError
from wsss.loaders import Loaded, collate, start_loader
from wsss.schedule import Progress, Schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.optim import Optimizer

    from wsss.groups import ParameterGroup
    from wsss.settings import sections
    from wsss.train import Samples

Key = tuple[int, int, int]  # of a sample: step, place in the batch, image
LOG_EVERY = 10  # steps between two looks at the losses, for which the host waits for the device


def make_fabric(device: str, precision: str) -> Fabric:
    """Make the fabric for ``device``: auto, cpu, cuda, cuda:<n> or cpu:<n>, where n > 1 processes train together."""
    from lightning_fabric import Fabric  # takes seconds to load, which the other stages are spared
    from lightning_fabric.plugins.environments import LightningEnvironment

    name, count = devices.find(device)
    its_name: Any = devices.PRECISION[precision]  # Fabric's name of the precision
    return Fabric(
        accelerator=name,
        devices=count,
        strategy="ddp_find_unused_parameters_true" if count > 1 else "auto",
        precision=its_name,
        plugins=LightningEnvironment(),  # also inside a Slurm allocation: Snakemake starts the jobs, not srun
    )


def poly(step: int, steps: float, power: float) -> float:
    """Compute the learning rate's factor ``(1 - step / steps)^power``; from ``steps`` on it keeps its last value."""
    return (1 - min(step, steps - 1) / steps) ** power


def build_optimizer(groups: list[ParameterGroup], settings: sections.Optimizer) -> Optimizer:
    """Make SGD over a task's parameter groups; ``lr_scale`` and ``decay_scale`` multiply the base values."""
    scaled: list[dict[str, Any]] = []
    for group in groups:
        parameters = list(group["params"])
        if not parameters:
            continue
        lr = settings["lr"] * group["lr_scale"]
        decay = settings["weight_decay"] * group["decay_scale"]
        scaled.append(
            {
                "params": parameters,
                "lr": lr,
                "weight_decay": decay,
                "base_lr": lr,
            }
        )
    return torch.optim.SGD(scaled, lr=settings["lr"], momentum=settings["momentum"])


def scale_learning_rates(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its base value."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class Loop:
    """The objects that one step of a training needs, but not those that write its results.

    Args:
        fabric: the processes that train.
        model: the task, wrapped by the fabric.
        optimizers: the optimizer of each phase, wrapped as well.
        schedule: the steps.
        train: the options of the loop.
        seed: the random seed; all draws of a step depend only on it, the step and the process.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: Any,
        optimizers: Mapping[str, Any],
        schedule: Schedule,
        train: sections.Loop,
        seed: int,
    ):
        self.fabric = fabric
        self.model = model
        self.optimizers = optimizers
        self.schedule = schedule
        self.seed = seed
        self.power = train["optimizer"]["poly_power"]
        self.may_skip = int(train["may_skip"] * schedule.steps)
        self.parts = _parts_of_each(train["accumulate"], fabric.world_size)
        self.share = 1.0  # of this process in the loss of the batch, times the number of processes

    # ---- batches

    def loader(self, samples: Samples, start: int, processes: int) -> Iterator[dict[str, Any]]:
        """Yield this process's part of each batch from step ``start`` on, and set its ``share`` of the loss."""
        batches, shares = self._own_parts(start)
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

    def _own_parts(self, start: int) -> tuple[list[list[Key]], list[float]]:
        """List the samples of each batch from step ``start`` on that this process has, and its share of the loss."""
        rank = self.fabric.global_rank
        world = self.fabric.world_size
        batches, shares = [], []
        for batch in self.schedule.batches(self.seed, start):
            size = len(batch)
            part = batch[part_of(size, rank, world)]
            batches.append(part or batch[:1])  # too few images for all processes: one image that counts nothing
            shares.append(len(part) * world / size)
        return batches, shares

    # ---- updates

    def step(self, batch: dict[str, Any], step: int) -> Iterator[tuple[str, dict[str, Tensor], bool]]:
        """Make the update of every active phase; yield (phase, losses, whether it was made).

        The work happens while the caller iterates. If updates may be skipped (``may_skip``), every loss is checked
        first, which makes the host wait for the device.
        """
        torch.manual_seed(self._seed_of(step))
        progress = self.schedule.progress(step)
        factor = poly(step, self.schedule.poly_steps, self.power)
        for phase in self.model.active_phases(progress):
            optimizer = self.optimizers[phase]
            scale_learning_rates(optimizer, factor)
            optimizer.zero_grad(set_to_none=True)
            losses, made = self._backward(batch, phase, progress)
            if made:
                optimizer.step()
            yield phase, self.together(losses), made

    def _seed_of(self, step: int) -> int:
        """Return the seed of torch's own generator at a step."""
        sequence = np.random.SeedSequence([self.seed, step, self.fabric.global_rank])
        (seed,) = sequence.generate_state(1)
        return int(seed)

    def _backward(
        self,
        batch: dict[str, Any],
        phase: str,
        progress: Progress,
    ) -> tuple[dict[str, Tensor], bool]:
        """Add up the gradients of a batch, one micro-batch after the other.

        Returns:
            The means of its losses, and whether the update can be made.
        """
        micro_batches = split(batch, self.parts)
        number = len(micro_batches)
        means: dict[str, Any] = {}
        for i, micro_batch in enumerate(micro_batches, start=1):
            with self.fabric.no_backward_sync(self.model, enabled=i < number):
                with self.fabric.autocast():
                    losses = self.model.losses(micro_batch, phase, progress)
                total = sum(losses.values())
                for term, value in losses.items():
                    means[term] = means.get(term, 0) + value.detach() / number
                if self.may_skip and not self.finite(total):
                    return means, False
                self.fabric.backward(total / number * self.share)
        return means, True

    # ---- over several processes

    def agree(self, stop: bool, done: int) -> bool:
        """Tell whether any process wishes to stop after ``done`` steps.

        Several processes compare their wishes only every ``LOG_EVERY`` steps.
        """
        if self.fabric.world_size == 1:
            return stop
        if done % LOG_EVERY:
            return False
        asked = torch.tensor(float(stop), device=self.fabric.device)
        return bool(self.fabric.all_reduce(asked, reduce_op="sum"))

    def finite(self, total: Tensor) -> bool:
        """Tell whether a loss is a number; of several processes, whether all are."""
        wrong = ~total.detach().isfinite()
        number: Any = self.fabric.all_reduce(wrong.float(), reduce_op="sum")
        return not bool(number)

    def together(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of the whole batch: of several processes the mean, by their shares."""
        if self.fabric.world_size == 1:
            return losses
        values = [value.float() for value in losses.values()]
        mine = torch.stack(values) * self.share
        mean: Any = self.fabric.all_reduce(mine, reduce_op="mean")
        return dict(zip(losses, mean, strict=True))


def _parts_of_each(parts: int, processes: int) -> int:
    """Return the number of micro-batches of one process: its share of ``parts`` if that is whole, else all of them."""
    if parts % processes == 0:
        return parts // processes
    return parts


def part_of(size: int, rank: int, world: int) -> slice:
    """Return the images of a batch that process ``rank`` of ``world`` has; all have nearly equally many."""
    first = size * rank // world
    end = size * (rank + 1) // world
    return slice(first, end)


def split(batch: dict[str, Any], parts: int) -> list[dict[str, Any]]:
    """Cut a batch into ``parts`` nearly equal micro-batches."""
    size = len(batch["id"])
    number = min(parts, size)
    bounds = np.linspace(0, size, number + 1).astype(int)
    return [_between(batch, first, end) for first, end in pairwise(bounds)]


def _between(batch: dict[str, Any], first: int, end: int) -> dict[str, Any]:
    """Return the images of a batch from ``first`` up to, but without, ``end``."""
    return {key: value[first:end] for key, value in batch.items()}
