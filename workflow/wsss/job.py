"""The input of a stage's function, put together from settings, an index and files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wsss.data.index import Dataset

if TYPE_CHECKING:
    from wsss.settings.sections import Settings


@dataclass(frozen=True)
class Given:
    """Everything that one job of a stage works with.

    Args:
        settings: the resolved sections that determine the stage, with its ``seed`` and ``dataset``.
        images: the images of this shard; for a training, the images it is trained on.
        dataset: all images of the data set.
        scores: score shards to read.
        masks: mask shards to read; None stands for the ground truth.
        instances: instance shards to read.
        model: the ``model.pt`` to read.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number of GPUs>``.
        workers: processes for work on the CPU. They change no result.
        loaders: processes that read images while the network runs. They change no result.
        batch: images that a network gets at once in inference. None for what suits the device: one on a CPU, four on a
            GPU. More than one may change the last bits of a result, and nothing else.
        deterministic: a GPU uses only kernels that give the same bits each time.
    """

    settings: Settings
    images: Dataset
    dataset: Dataset
    scores: tuple[str, ...] = ()
    masks: tuple[str, ...] | None = None
    instances: tuple[str, ...] = ()
    model: str | None = None
    device: str = "auto"
    workers: int = 1
    loaders: int = 0
    batch: int | None = None
    deterministic: bool = False


def give(
    settings: Settings,
    data: str | Path,
    part: str,
    shard: tuple[int, int] = (0, 1),
    *,
    scores: Iterable[str] = (),
    masks: Iterable[str] | None = None,
    instances: Iterable[str] = (),
    model: str | None = None,
    device: str = "auto",
    workers: int = 1,
    loaders: int = 0,
    batch: int | None = None,
    deterministic: bool = False,
) -> Given:
    """Choose the images of a job and put them together with what it reads.

    Args:
        settings: the resolved settings of the stage.
        data: the folder of the index.
        part: the images to work on: ``train``, ``measured``, ``rest``, ``val`` or ``test``.
        shard: (i, n) for the i-th of n interleaved parts of these images, counted from 0.
        scores, masks, instances, model, device, workers, loaders, batch, deterministic: as in :class:`Given`.

    Raises:
        WsssError: the index cannot be read, or has no such images.
    """
    dataset = Dataset.load(data)
    images = dataset.part(part, settings["dataset"]["splits"]).shard(*shard)
    return Given(
        settings=settings,
        images=images,
        dataset=dataset,
        scores=tuple(scores),
        masks=None if masks is None else tuple(masks),
        instances=tuple(instances),
        model=model,
        device=device,
        workers=workers,
        loaders=loaders,
        batch=batch,
        deterministic=deterministic,
    )
