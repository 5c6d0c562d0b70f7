"""Samples that wait until what belongs to them is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np

from signal_diffusion.dsp import Array


class Buffer:
    """A queue of samples (..., n), in at the end and out at the beginning.

    >>> import numpy as np
    >>> buffer = Buffer()
    >>> buffer.push(np.arange(3)), buffer.push(np.arange(3, 9))
    (None, None)
    >>> buffer.take(4), len(buffer)
    (array([0, 1, 2, 3]), 5)
    """

    def __init__(self) -> None:
        self._blocks: deque[Array] = deque()
        self._spent = self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, block: Array) -> None:
        """Append samples (..., n)."""
        if self._blocks and not self._length:
            self._blocks.clear()
            self._spent = 0
        self._blocks.append(block)
        self._length += block.shape[-1]

    def peek(self, count: int) -> Array:
        """The first samples, at most `count`, which stay in the queue."""
        parts, skipped = [], self._spent
        for block in self._blocks:
            parts.append(block[..., skipped : skipped + count])
            count, skipped = count - parts[-1].shape[-1], 0
            if count <= 0:
                break
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def take(self, count: int) -> Array:
        """The first samples, at most `count`, which leave the queue."""
        taken = self.peek(count)
        self._spent += taken.shape[-1]
        self._length -= taken.shape[-1]
        # The last block stays, spent or not: it tells the shape of what comes.
        while len(self._blocks) > 1 and self._spent >= self._blocks[0].shape[-1]:
            self._spent -= self._blocks.popleft().shape[-1]
        return taken


class Windows:
    """A function of the windows around values (C, n), which come in blocks; ends are repeated.

    Args:
        function: called as function(windows, axis=-1).
        before, after: values of a window beside its own.

    >>> import numpy as np
    >>> highest = Windows(np.max, before=1, after=1)
    >>> highest.push(np.array([[1, 3, 0]])), highest.push(np.array([[0, 2]]), last=True)
    (array([[3, 3]]), array([[3, 2, 2]]))
    """

    def __init__(self, function: Callable[..., Array], *, before: int, after: int) -> None:
        self._function, self._before, self._after = function, before, after
        self._held: Array | None = None

    def push(self, x: Array, *, last: bool = False, start: Array | None = None) -> Array:
        """What a block makes known; `start` (C, 1) is what was before the first one."""
        if self._held is None:
            if not x.shape[1]:
                return x
            start = x[:, :1] if start is None else start
            self._held = np.repeat(start, self._before, axis=1)
        ends = self._after if last else 0
        held = np.concatenate([self._held, x], axis=1)
        held = np.concatenate([held, np.repeat(held[:, -1:], ends, axis=1)], axis=1)
        size = self._before + 1 + self._after
        count = max(held.shape[1] - size + 1, 0)
        self._held = held[:, count:]
        if not count:
            return held[:, :0]
        windows = np.lib.stride_tricks.sliding_window_view(held, size, axis=1)
        return np.asarray(self._function(windows, axis=-1))


def overlapping(
    blocks: Iterable[Array], *, size: int, before: int, after: int
) -> Iterator[tuple[int, int, Array]]:
    """Pieces of readings with what lies around them: where one starts, how much of it is before.

    >>> pieces = overlapping([np.arange(7)[None]], size=4, before=2, after=1)
    >>> [(start, past, x[0].tolist()) for start, past, x in pieces]
    [(0, 0, [0, 1, 2, 3, 4]), (4, 2, [2, 3, 4, 5, 6])]
    """
    held, start, past = Buffer(), 0, 0
    for block in chain(blocks, [None]):
        if block is not None:
            held.push(block)
        # At the end nothing more comes after the last pieces.
        while len(held) >= past + (1 if block is None else size + after):
            yield start, past, held.peek(past + size + after)
            start, gone = start + size, past + size
            past = min(before, start)
            held.take(gone - past)


def regrouped(parts: Iterable[tuple[Array, Array]], size: int) -> Iterator[tuple[Array, Array]]:
    """Pairs of arrays (C, m) as pairs of arrays (C, size), the last one shorter."""
    first, second = Buffer(), Buffer()
    for pair in parts:
        first.push(pair[0])
        second.push(pair[1])
        while len(first) >= size:
            yield first.take(size), second.take(size)
    if len(first):
        yield first.take(size), second.take(size)
