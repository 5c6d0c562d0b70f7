"""Reading and writing beside the network's work, each in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch

T = TypeVar("T")
END = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each fetched while the one before it is worked on.

    >>> list(ahead(range(3)))
    [0, 1, 2]
    """
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, source, END)
        while (item := coming.result()) is not END:
            coming = thread.submit(next, source, END)
            yield cast(T, item)


@contextmanager
def behind(sink: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """A sink that returns at once: each call waits for the one before it, and raises its error.

    >>> seen = []
    >>> with behind(seen.append) as sink:
    ...     sink(1), sink(2)
    (None, None)
    >>> seen
    [1, 2]
    """
    pending: list[Future[None]] = []

    def push(*arguments: Any) -> None:
        if pending:
            pending.pop().result()
        pending.append(thread.submit(sink, *arguments))

    with ThreadPoolExecutor(1) as thread:
        yield push
        if pending:
            pending.pop().result()


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


def shared_threads(workers: int) -> AbstractContextManager[None]:
    """Each of some worker threads computes with its share of torch's threads."""
    return threads(max(1, torch.get_num_threads() // workers))


def quickest(run: Callable[[], object], *, repeats: int) -> Taken:
    """The quickest of some runs, after one that warms up: others on the machine only add time."""
    runs = []
    for _ in range(1 + repeats):
        began, busy = time.perf_counter(), time.process_time()
        run()
        runs.append(Taken(time.perf_counter() - began, time.process_time() - busy))
    return min(runs[1:], key=lambda taken: taken.seconds)
