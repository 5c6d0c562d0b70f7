"""Reading and writing beside the network's work, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, cast

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
