"""Images of one size in one batch, with results in the order of the images."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

WINDOW = 16  # an image waits at most this many batches for others of its size
Result = TypeVar("Result")


def of_one_size(sizes: Sequence[Hashable], most: int) -> list[list[int]]:
    """Group items into batches of one size.

    Args:
        sizes: the size of each item.
        most: the largest number of items in a batch. With 1 the items stay in order.

    Returns:
        The indices of the items of each batch. An item waits while at most ``WINDOW * most`` others come after it.
    """
    batches: list[list[int]] = []
    waiting: dict[Hashable, list[int]] = {}
    for i, size in enumerate(sizes):
        waiting.setdefault(size, []).append(i)
        for group in [group for group in waiting.values() if len(group) == most or i - group[0] >= WINDOW * most]:
            batches.append(group)
            del waiting[sizes[group[0]]]
    return batches + list(waiting.values())


def reordered(batches: Iterable[list[int]], results: Iterable[Iterable[Result]]) -> Iterator[Result]:
    """Yield the results of batches in the order of their items."""
    found: dict[int, Result] = {}
    following = 0
    for batch, of_batch in zip(batches, results, strict=True):
        found.update(zip(batch, of_batch, strict=True))
        while following in found:
            yield found.pop(following)
            following += 1
