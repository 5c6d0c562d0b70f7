"""How long something takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Taken:
    """Seconds by the clock, and of all processors together."""

    seconds: float
    processor_seconds: float


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads of torch while the block runs, then as many as before.

    >>> before = torch.get_num_threads()
    >>> with threads(before + 1):
    ...     assert torch.get_num_threads() == before + 1
    >>> torch.get_num_threads() == before
    True
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quickest(run: Callable[[], object], *, repeats: int) -> Taken:
    """The quickest of some runs, after one that warms up: others on the machine only add time."""
    run()
    return min((_once(run) for _ in range(repeats)), key=lambda taken: taken.seconds)


def _once(run: Callable[[], object]) -> Taken:
    began, busy = time.perf_counter(), time.process_time()
    run()
    return Taken(time.perf_counter() - began, time.process_time() - busy)
