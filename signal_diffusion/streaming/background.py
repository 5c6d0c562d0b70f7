"""Reading and writing beside the network's work, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch

from signal_diffusion.dsp import Array

T = TypeVar("T")
END = object()
#: Seconds after which a waiting thread looks up.
LOOK_UP = 0.5


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


def gathered(blocks: Iterable[Array], most: int) -> Iterator[Array]:
    """The samples (C, n) that have come while those before them were worked on, as one block.

    A thread reads them: what comes slowly goes on at once, and what comes fast in large blocks.

    Args:
        blocks: (C, n) each.
        most: samples of all channels that wait, about.

    >>> sum(block.shape[1] for block in gathered((np.ones((1, n)) for n in range(9)), 100))
    36
    """
    room = threading.Condition()
    waiting: list[Array] = []
    over: list[BaseException | None] = []

    def read() -> None:
        error = None
        try:
            for block in blocks:
                with room:
                    room.wait_for(lambda: over or sum(part.size for part in waiting) < most)
                    if over:
                        return
                    waiting.append(block)
                    room.notify_all()
        except BaseException as caught:
            error = caught
        with room:
            over.append(error)
            room.notify_all()

    # A daemon, since a pipe may be silent for ever once the work has failed.
    threading.Thread(target=read, daemon=True).start()
    try:
        while True:
            with room:
                while not waiting and not over:
                    # Not every system lets Ctrl-C wake a thread that waits without end.
                    room.wait(LOOK_UP)
                parts = waiting[:]
                waiting.clear()
                room.notify_all()
            if parts:
                yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            elif over[0] is None:
                return
            else:
                raise over[0]
    finally:
        with room:
            over.append(None)
            room.notify_all()


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
