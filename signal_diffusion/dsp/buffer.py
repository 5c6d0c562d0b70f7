"""Samples that wait until what belongs to them is known."""

from __future__ import annotations

from collections import deque

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
