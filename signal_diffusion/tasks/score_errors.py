"""The errors of a denoiser on windows of readings, at several levels of noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.noise import Noise
from signal_diffusion.robust import median_and_deviation
from signal_diffusion.tasks.buffers import Buffer

Array = NDArray[Any]

#: Noise over the readings' own spread at which errors are looked at.
LEVELS = (0.3, 1.0, 4.0)
#: Readings that are denoised at once, at least a window of all channels.
PIECE = 1 << 16
#: Deviation of errors that don't vary.
LEAST = 1e-6


@dataclass(frozen=True)
class Usual:
    """Errors on readings without faults, by level and channel (levels, C)."""

    middle: Array
    deviation: Array

    @staticmethod
    def of(errors: Array) -> Usual:
        """What is usual by errors (W, levels, C) of readings that are mostly without faults."""
        middle, deviation = median_and_deviation(errors)
        return Usual(middle, np.maximum(deviation, LEAST))

    def scores(self, errors: Array) -> Array:
        """Errors (W, levels, C) as deviations from the median, averaged over the levels: (W, C)."""
        return np.asarray(((errors - self.middle) / self.deviation).mean(axis=1))


@torch.no_grad()
def window_errors(
    denoiser: NetworkDenoiser,
    blocks: Iterable[Array],
    channels: int,
    rows: int,
    *,
    seed: int = 0,
    piece: int = PIECE,
) -> Iterator[Array]:
    """The errors (levels, C) of each window of some readings, however these are cut into blocks.

    Args:
        blocks: (C, n), of a median of 0 and a deviation of 1.
        channels: C.
        rows: of a window.
        seed: of the noise.
        piece: readings that are denoised at once.
    """
    state = state_channels(denoiser)
    batch = [(n, 0) for n in range(channels // state)]
    noise = Noise(seed, rows=batch, channels=state)
    unit = math.lcm(rows, denoiser.hop)
    size = max(1, piece // (channels * unit)) * unit
    before, after = denoiser.context()
    before = math.ceil(before / denoiser.hop) * denoiser.hop
    for start, past, x in overlapping(blocks, size=size, before=before, after=after):
        given = torch.from_numpy(np.ascontiguousarray(x, np.float32))
        given = given.reshape(len(batch), state, -1).to(next(denoiser.parameters()).device)
        draws = [noise(n, start - past, given.shape[-1]).to(given) for n in range(len(LEVELS))]
        errors = torch.stack([
            squared_errors(denoiser, given, torch.tensor(level), z)[0]
            for level, z in zip(LEVELS, draws, strict=True)
        ]).reshape(len(LEVELS), channels, -1)  # fmt: skip
        yield from _windows(errors[..., past : past + size].cpu().double().numpy(), rows)


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


def squared_errors(
    denoiser: NetworkDenoiser, x: Tensor, level: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """(x - D(x + level z; level))^2 of states (B, K, n) of deviation 1, and the times of D.

    The level is a scalar or (B, 1, 1); the denoiser's own states are `sigma_data` times as large.
    """
    schedule, spread = denoiser.schedule, denoiser.sigma_data
    t = schedule.time_at(-(level.cpu().double() * spread).log())
    alpha, _, sigma = (part.to(x) for part in schedule(t))
    x_hat = denoiser(alpha * spread * x + sigma * z, t.to(x)).float()
    return (x - x_hat / spread).square(), t.to(x)


def _windows(errors: Array, rows: int) -> Iterator[Array]:
    """The means (levels, C) over windows of errors (levels, C, n)."""
    for start in range(0, errors.shape[-1], rows):
        window = errors[..., start : start + rows]
        if 2 * window.shape[-1] >= rows:
            yield window.mean(axis=-1)


def state_channels(denoiser: NetworkDenoiser) -> int:
    """Channels that a denoiser takes at once."""
    return int(getattr(denoiser.backbone, "state_channels", 1))
