"""Gaps drawn at random, as recordings have them: blocks of readings, single ones, and both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Gaps:
    """Draws which samples of clips are missing: blocks, single samples, or both, a third each.

    Args:
        share: of the clips that have gaps.
        longest: samples of the longest block; lengths are log-uniform, from 2 on.
        most_blocks: blocks of a clip, at most.
        singles: range of the share of single samples, which is log-uniform.

    >>> masks = Gaps(share=0.5)(np.random.default_rng(0), 8, 4096)
    >>> masks.shape, bool(0 < masks.mean() < 0.5), int(masks.any(axis=1).sum())
    ((8, 4096), True, 3)
    """

    share: float = 0.0
    longest: int = 400
    most_blocks: int = 16
    singles: tuple[float, float] = (0.01, 0.4)

    def __call__(self, rng: np.random.Generator, size: int, length: int) -> Mask:
        """Masks (size, length), true where a sample is missing."""
        masks = np.zeros((size, length), bool)
        if not self.share:
            return masks
        for row in np.flatnonzero(rng.random(size) < self.share):
            kind = int(rng.integers(3))
            if kind != 0:
                masks[row] |= self._blocks(rng, length)
            if kind != 1:
                masks[row] |= rng.random(length) < np.exp(rng.uniform(*np.log(self.singles)))
        return masks

    def _blocks(self, rng: np.random.Generator, length: int) -> Mask:
        mask = np.zeros(length, bool)
        for _ in range(int(rng.integers(1, self.most_blocks + 1))):
            size = round(np.exp(rng.uniform(np.log(2), np.log(self.longest))))
            start = int(rng.integers(length - size + 1))
            mask[start : start + size] = True
        return mask
