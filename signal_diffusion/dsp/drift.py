"""Offset and slow drift of a recording, taken off block by block."""

from __future__ import annotations

import numpy as np
import scipy.signal

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import Buffer

#: Samples of a frame, and frames on either side that its mean is averaged with: 0.4 s at 16 kHz,
#: which leaves what lies above 6 Hz as it was.
FRAME, SMOOTHED = 512, 6
#: Variance of the places of frames, in frames, through which lines are fitted.
LEAST = 0.5


#: Cycles a sample below which sound doesn't count for its level: 20 Hz at 16 kHz.
CORNER = 20 / 16_000


class HighPass:
    """Samples (C, n) in, as many without offset and drift out, for levels: it turns phases.

    A Butterworth filter of second order, which begins as if the first sample had been there before.

    >>> import numpy as np
    >>> float(np.abs(HighPass().push(np.full((1, 6000), 3.0))).max()) < 1e-9
    True
    """

    def __init__(self) -> None:
        self._sections = scipy.signal.butter(2, 2 * CORNER, "highpass", output="sos")
        self._state: Array | None = None

    def push(self, x: Array) -> Array:
        if not x.shape[1]:
            return x
        x = x.astype(np.float64)
        if self._state is None:
            self._state = scipy.signal.sosfilt_zi(self._sections)[:, None] * x[None, :, :1]
        filtered, self._state = scipy.signal.sosfilt(self._sections, x, axis=1, zi=self._state)
        return np.asarray(filtered)


class DriftFilter:
    """Samples (C, n) in, the same without what changes slower than some Hz out, as it is known.

    The drift is that of the means of frames, smoothed by lines under a Hann window and
    joined by lines. All blocks together are those of the whole recording, however it is cut.

    Attributes:
        ahead: samples after one that its drift depends on, at most.

    >>> import numpy as np
    >>> drift = DriftFilter(channels=1)
    >>> before = drift.push(np.full((1, 6000), 3.0)), drift.flush()
    >>> sum(block.shape[1] for block in before), float(np.abs(np.hstack(before)).max())
    (6000, 0.0)
    """

    ahead = (SMOOTHED + 2) * FRAME

    def __init__(self, channels: int) -> None:
        weights = np.hanning(2 * SMOOTHED + 3)[1:-1]
        self._weights = weights / weights.sum()
        self._waiting, self._rest = Buffer(), np.zeros((channels, 0))
        # Frames before the first one and after the last one, which hold nothing.
        self._none = np.zeros((channels + 1, SMOOTHED))
        self._frames, self._means = self._none, np.zeros((channels, 0))
        self._first = self._done = 0

    def push(self, x: Array) -> Array:
        """The samples that a block (C, n) makes known."""
        self._waiting.push(x)
        x = np.concatenate([self._rest, x], axis=1)
        whole = x.shape[1] // FRAME * FRAME
        self._rest = x[:, whole:]
        self._average(x[:, :whole].reshape(len(x), -1, FRAME))
        last = self._first + self._means.shape[1] - 1
        return self._take(max(0, last * FRAME + FRAME // 2 - self._done) if last >= 0 else 0)

    def flush(self) -> Array:
        """The rest, once the recording is over."""
        self._average(self._rest[:, None] if self._rest.shape[1] else self._rest[:, None][:, :0])
        self._frames = np.concatenate([self._frames, self._none], axis=1)
        self._smooth()
        return self._take(len(self._waiting))

    def _average(self, frames: Array) -> None:
        """Sums of frames (C, k, n), and their counts of samples in a last row."""
        sums = frames.sum(axis=-1, dtype=np.float64)
        counts = np.full((1, frames.shape[1]), float(frames.shape[-1]))
        self._frames = np.concatenate([self._frames, np.concatenate([sums, counts])], axis=1)
        self._smooth()

    def _smooth(self) -> None:
        """The means of the frames whose neighbours have come."""
        count = self._frames.shape[1] - 2 * SMOOTHED
        if count <= 0:
            return
        parts = [self._frames[:, at : at + count] * w for at, w in enumerate(self._weights)]
        # Lines are fitted, which differ from means where one side has fewer frames.
        moments = [
            np.sum([part * (at - SMOOTHED) ** power for at, part in enumerate(parts)], axis=0)
            for power in range(3)
        ]
        (first, second), (n, s, q) = moments[:2], (moment[-1:] for moment in moments)
        spread = n * q - s * s
        lines = (q * first - s * second) / np.where(spread > 0, spread, 1)
        means = np.where(spread > LEAST * n * n, lines, first / n)[:-1]
        self._means = np.concatenate([self._means, means], axis=1)
        self._frames = self._frames[:, count:]

    def _take(self, count: int) -> Array:
        x = self._waiting.take(count)
        if not count:
            return x
        places = (np.arange(self._done, self._done + count) - (FRAME - 1) / 2) / FRAME
        at = np.clip(places - self._first, 0, self._means.shape[1] - 1)
        low = at.astype(np.int64)
        high = np.minimum(low + 1, self._means.shape[1] - 1)
        drift = self._means[:, low] + (at - low) * (self._means[:, high] - self._means[:, low])
        self._done += count
        # The means before the last sample are not needed again.
        stale = max(0, min(int(low[-1]), self._means.shape[1] - 1))
        self._means, self._first = self._means[:, stale:], self._first + stale
        return np.subtract(x, drift, dtype=np.float64).astype(x.dtype)
