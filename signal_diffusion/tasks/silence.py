"""Digital silence, which stays silent whatever a denoiser makes of it."""

from __future__ import annotations

import numpy as np

from signal_diffusion.tasks.buffers import Array, Buffer

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
