"""Samples that wait until what belongs to them is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


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
        self._blocks: list[Array] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, block: Array) -> None:
        """Append samples (..., n)."""
        self._blocks.append(block)
        self._length += block.shape[-1]

    def peek(self, count: int) -> Array:
        """The first samples, at most `count`, which stay in the queue."""
        self._joined()
        return self._blocks[0][..., :count]

    def take(self, count: int) -> Array:
        """The first samples, at most `count`, which leave the queue."""
        taken = self.peek(count)
        # A copy, since a view would keep what has left in memory.
        self._blocks = [self._blocks[0][..., count:].copy()]
        self._length = self._blocks[0].shape[-1]
        return taken

    def _joined(self) -> None:
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks, axis=-1)]
