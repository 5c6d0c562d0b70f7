"""Change of the sample rate, without delay, in one go or block by block."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import soxr

from signal_diffusion.dsp import Array


class Resampler:
    """A running change of rate: blocks (C, n) in, blocks (C, m) out, without delay in the result.

    The blocks together are `resample` of the recording, bit for bit, however it is cut. A linear
    phase band-limited interpolation (soxr, very high quality).

    Args:
        source_rate, target_rate: Hz.
        channels: C.
        dtype: of the samples, float32 or float64.

    >>> import numpy as np
    >>> resampler = Resampler(44100, 16000, channels=1)
    >>> blocks = [resampler.push(np.zeros((1, 22050), np.float32)) for _ in range(2)]
    >>> sum(block.shape[1] for block in [*blocks, resampler.flush()])
    16000
    """

    def __init__(
        self, source_rate: float, target_rate: float, *, channels: int, dtype: str = "float32"
    ) -> None:
        self.source_rate, self.target_rate = source_rate, target_rate
        self.channels, self.dtype = channels, np.dtype(dtype)
        self._read = self._written = 0
        self._stream = (
            None
            if source_rate == target_rate
            else soxr.ResampleStream(
                source_rate, target_rate, channels, dtype=str(self.dtype), quality="VHQ"
            )
        )

    def push(self, block: Array) -> Array:
        """The samples that are known once a block (C, n) has come."""
        self._read += block.shape[1]
        if self._stream is None:
            return block
        resampled = self._stream.resample_chunk(np.ascontiguousarray(block.T, self.dtype))
        self._written += len(resampled)
        return np.ascontiguousarray(resampled.T)

    def flush(self) -> Array:
        """The rest: all blocks together hold ceil(L target_rate / source_rate) samples."""
        if self._stream is None:
            return np.zeros((self.channels, 0), self.dtype)
        ratio = Fraction(self.target_rate) / Fraction(self.source_rate)
        length = math.ceil(self._read * ratio)
        # soxr rounds the length down: a few zeros after the end keep the last sample.
        tail = math.ceil(self.source_rate / self.target_rate) + 1
        zeros = np.zeros((tail, self.channels), self.dtype)
        resampled = self._stream.resample_chunk(zeros, last=True)
        return np.ascontiguousarray(resampled.T[:, : length - self._written])


def resample(samples: Array, source_rate: float, target_rate: float) -> Array:
    """Samples (C, L) at another rate, (C, ceil(L target_rate / source_rate)), without delay.

    Rates in Hz; float64 samples are reckoned with in float64, others in float32.

    >>> import numpy as np
    >>> resample(np.zeros((1, 44101), np.float32), 44100, 16000).shape
    (1, 16001)
    """
    if source_rate == target_rate:
        return samples
    dtype = "float64" if samples.dtype == np.float64 else "float32"
    resampler = Resampler(source_rate, target_rate, channels=len(samples), dtype=dtype)
    return np.concatenate([resampler.push(samples), resampler.flush()], axis=1)
