"""Which samples of a recording are missing, and have been filled in, as a denoiser is told it."""

from __future__ import annotations

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import Buffer


class Missing:
    """Masks (C, n) of a recording go in at its rate, and come out at the denoiser's.

    A sample of the denoiser is missing if one of those that lie nearest to it is. Masks together
    are those of the whole recording, however it is cut.

    Args:
        source_rate, target_rate: of the recording and of the denoiser, Hz.
        channels: C.

    >>> missing = Missing(4, 2, channels=1)
    >>> missing.push(np.array([[True, False, False, False, True, False]]))
    >>> missing.take(2), missing.take(1)
    (array([[ True, False]]), array([[ True]]))
    """

    def __init__(self, source_rate: float, target_rate: float, *, channels: int) -> None:
        self._ratio = source_rate / target_rate
        self._held = np.zeros((channels, 0), bool)
        self._low = self._done = 0

    def push(self, mask: Array) -> None:
        """Append a mask (C, n)."""
        self._held = np.concatenate([self._held, mask], axis=1)

    def take(self, count: int) -> Array:
        """The mask (C, count) of the denoiser's next samples."""
        places = np.arange(self._done, self._done + count + 1) * self._ratio
        half = max(self._ratio, 1) / 2
        starts = self._held_at(places - half, self._held.shape[1] - 1)
        ends = self._held_at(places + half, self._held.shape[1])
        before = np.cumsum(np.pad(self._held, ((0, 0), (1, 0))), axis=1)
        stale = min(int(starts[-1]), self._held.shape[1])
        self._done += count
        self._held, self._low = self._held[:, stale:], self._low + stale
        return np.asarray(before[:, ends[:-1]] > before[:, starts[:-1]])

    def _held_at(self, places: Array, most: int) -> Array:
        """Where in what is held the samples begin that lie behind some places."""
        return np.clip(np.ceil(places).astype(np.int64) - self._low, 0, max(most, 0))


#: Zeros in a row that count as digital silence.
SILENCE = 256


class Silence:
    """Which samples of a recording lie in a run of `SILENCE` zeros or more, found block by block.

    Recordings that are shorter lie in silence.

    Args:
        offset: what counts as zero, (C, 1).
    """

    def __init__(self, offset: Array) -> None:
        self._offset, self._read = offset, 0
        self._marks = Buffer()
        self._before = np.zeros((len(offset), SILENCE - 1), bool)

    def push(self, block: Array, missing: Array | None = None) -> None:
        """Append samples (C, n); those that are missing are no zeros, whatever filled them."""
        zeros = block == self._offset
        self._marks.push(zeros if missing is None else zeros & ~missing)
        self._read += block.shape[1]

    def sounding(self, count: int) -> Array:
        """0 where the next samples lie in silence, 1 elsewhere: (C, count)."""
        ahead = self._marks.peek(count + SILENCE - 1)
        self._marks.take(count)
        short = self._read < SILENCE
        after = np.full((len(ahead), count + SILENCE - 1 - ahead.shape[1]), short)
        zeros = np.concatenate([self._before | short, ahead, after], axis=1)
        self._before = zeros[:, count : count + SILENCE - 1]
        return ~_in_runs(zeros, SILENCE)[:, SILENCE - 1 :][:, :count]


def _in_runs(marked: Array, least: int) -> Array:
    """Which marks (C, n) lie in a run of at least `least`."""
    edges = np.diff(np.pad(marked, ((0, 0), (1, 1))).astype(np.int8), axis=-1)
    inside = np.zeros_like(marked)
    for row, edge in enumerate(edges):
        starts, ends = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)
        long = ends - starts >= least
        for start, end in zip(starts[long], ends[long], strict=True):
            inside[row, start:end] = True
    return inside
