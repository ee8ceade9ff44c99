"""Run a stage whose results are stored image by image: the one loop over the images of a shard."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss import stores
from wsss.progress import bar
from wsss.registry import attribute

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.stages import Stage

WRITERS = {"scores": stores.write_scores, "masks": stores.write_masks, "instances": stores.write_instances}


def run_shards(stage: Stage, given: Given, out: str | Path) -> None:
    """Write a stage's results of ``given.images`` to the shard file ``out``.

    Args:
        stage: the row of the stage. Its function is a generator: for each image, in order, it yields a list of entries
            for the store.
        given: what the function works with.
        out: the shard file. It appears only when all images are done.
    """
    about: AbstractContextManager[None] = nullcontext()
    if stage.network:
        from wsss import devices  # loads torch, which other stages need not wait for

        where = devices.on(given.device)  # a missing GPU is reported before anything is read
        devices.choose_kernels(where, given.deterministic, fixed_shapes=False)
        about = devices.told_what_lacks_kernels()
    results = attribute(stage.function)(given)
    write: Callable[[str | Path], AbstractContextManager[Any]] = WRITERS[stage.makes]
    with about, write(out) as store:
        for entries in bar(results, out=out, unit="image", total=len(given.images)):
            for entry in entries:
                store.put(*entry)
