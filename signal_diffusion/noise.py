"""Fresh noise that depends on where a sample lies, not on how a recording is cut or batched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

#: Values drawn by one key. Part of every result: another number gives other noise.
BLOCK = 2**16


class Noise:
    """White normal noise, indexed by absolute position.

    The value at a position is a function of (seed, channel, shot, call, position) alone, drawn in
    fixed blocks by the counter-based Philox generator (Salmon et al. 2011, "Parallel random
    numbers: as easy as 1, 2, 3").

    Args:
        seed: any whole number, 0 or more.
        rows: the (channel, shot) of every row of the batch.
        channels: channels of the state, C.

    >>> noise = Noise(0, rows=[(0, 0), (1, 0)], channels=3)
    >>> whole = noise(call=0, start=0, length=100)
    >>> whole.shape
    torch.Size([2, 3, 100])
    >>> torch.equal(noise(call=0, start=40, length=60), whole[..., 40:])
    True
    """

    def __init__(self, seed: int, *, rows: Sequence[tuple[int, int]], channels: int) -> None:
        self.seed, self.rows, self.channels = seed, tuple(rows), channels
        self.block = max(1, BLOCK // channels)

    def __call__(self, call: int, start: int, length: int) -> Tensor:
        """The noise (B, C, length) of a call, from position `start` on, float32."""
        first, last = start // self.block, (start + length - 1) // self.block
        offset = start - first * self.block
        batch = [
            np.concatenate([self._draw(row, call, n) for n in range(first, last + 1)], axis=1)
            for row in self.rows
        ]
        return torch.from_numpy(np.stack([x[:, offset : offset + length] for x in batch]))

    def _draw(self, row: tuple[int, int], call: int, block: int) -> np.ndarray:
        key = np.random.SeedSequence(self.seed, spawn_key=(*row, call, block))
        generator = np.random.Generator(np.random.Philox(key))
        return generator.standard_normal((self.channels, self.block), dtype=np.float32)
