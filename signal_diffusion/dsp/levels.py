"""The level of a recording, as it is normalised before a network sees it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.dsp import Array

SILENCE_DB = -80.0
#: Samples of the frames whose levels count, as in `levels.level_db`.
FRAME = 512
#: Least level of the loud frames under the peak, in dB, that normalisation reckons with.
LOWEST_DB = -40.0
#: Share of the frames that are not louder than the level.
LOUD = 0.95
#: Differences of the fourth order, scaled to keep the deviation of white noise.
DIFFERENCE = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / math.sqrt(70)
#: Median magnitude of a normal variable of deviation 1.
NORMAL_MEDIAN = 0.6745


def level_db(x: Tensor, *, frame: int = 512) -> Tensor:
    """Level of the loud frames of signals (..., L), in dB of full scale, shaped (..., 1).

    The 95th percentile of the frames' mean squares: a mean over a mostly silent recording would
    make its noise loud. Silent recordings give `SILENCE_DB`.

    >>> import torch
    >>> level_db(torch.full((1, 4096), 0.1)).round()
    tensor([[-20.]])
    """
    frame = min(frame, x.shape[-1])
    energies = x.unfold(-1, frame, frame).square().mean(dim=-1)
    loud = torch.quantile(energies, 0.95, dim=-1, keepdim=True)
    return 10 * torch.log10(loud.clamp_min(10 ** (SILENCE_DB / 10)))


class LevelMeter:
    """The level of a recording in blocks: that of the loud frames of its channels.

    It is reckoned relative to the peak, so that no scale of the input underflows, and held above
    `LOWEST_DB`, since a few words in a long digital silence have the level of the silence.

    Args:
        channels: C.
        centred: whether levels are those about the channels' medians, which `offsets` tells.
        frame: samples of a frame.

    >>> import numpy as np
    >>> meter = LevelMeter(channels=1)
    >>> meter.push(np.full((1, 4096), 0.1))
    >>> round(meter.level_db, 3)
    -20.0
    """

    def __init__(self, channels: int, *, centred: bool = False, frame: int = FRAME) -> None:
        self.centred, self.frame = centred, frame
        self._rest = np.zeros((channels, 0))
        self._peaks = np.full((2, channels), -np.inf)
        self._frames: Array | None = None
        self._count = 0

    def push(self, block: Array) -> None:
        """Take in samples (C, n)."""
        if not block.shape[1]:
            return
        x = np.concatenate([self._rest, block], axis=-1)
        whole = x.shape[1] // self.frame * self.frame
        self._rest = x[:, whole:]
        self._peaks = np.maximum(self._peaks, [block.max(axis=1), -block.min(axis=1)])
        if whole:
            self._keep(self._described(x[:, :whole].reshape(len(x), -1, self.frame)))

    @property
    def offsets(self) -> Array:
        """The channels' medians (C, 1), by the medians of frames; zeros unless centred."""
        if not self.centred:
            return np.zeros((len(self._rest), 1))
        return np.asarray(np.median(self._described_frames()[2], axis=-1, keepdims=True))

    @property
    def peaks(self) -> Array:
        """Largest magnitudes (C,), about the offsets."""
        if np.isinf(self._peaks).any():
            return np.zeros(self._peaks.shape[1])
        low, high = -self._peaks[1], self._peaks[0]
        offsets = self.offsets[:, 0]
        return np.asarray(np.maximum(np.abs(high - offsets), np.abs(low - offsets)))

    @property
    def levels_db(self) -> Array:
        """dB of full scale of every channel (C,); silent ones have `SILENCE_DB`."""
        peaks = self.peaks[:, None]
        scale = np.where(peaks > 0, peaks, 1)
        described = self._described_frames() / scale
        about = np.square(described[0])
        if self.centred:
            offsets = self.offsets / scale
            about += np.square(offsets) - 2 * offsets * described[1]
        loud = np.quantile(about, LOUD, axis=-1).clip(10 ** (LOWEST_DB / 10))
        levels = 10 * np.log10(loud) + 20 * np.log10(scale[:, 0])
        return np.where(peaks[:, 0] > 0, levels, SILENCE_DB)

    @property
    def noise_std(self) -> Array:
        """Estimated deviations (C,) of white noise: medians of `_noise_std` over frames.

        At least a millionth of the peak, since quantised readings at rest have none.
        """
        estimates = np.median(self._described_frames()[3], axis=-1)
        return np.maximum(estimates, 1e-6 * self.peaks)

    @property
    def level_db(self) -> float:
        """dB of full scale of the loudest channel."""
        return float(self.levels_db.max())

    def _described(self, frames: Array) -> Array:
        """Root mean squares (1, C, n) of frames; if centred, means, medians and noise (4, C, n)."""
        if not self.centred:
            # For hours of sound the levels are most of what is kept.
            return rms(frames)[None].astype(np.float32)
        means, medians = frames.mean(axis=-1, dtype=np.float64), np.median(frames, axis=-1)
        return np.stack([rms(frames), means, medians, _noise_std(frames)])

    def _keep(self, described: Array) -> None:
        # In one array that doubles: thousands of small ones would riddle the memory for hours.
        needed = self._count + described.shape[-1]
        if self._frames is None or needed > self._frames.shape[-1]:
            grown = np.zeros((*described.shape[:-1], max(2 * needed, 1 << 14)), described.dtype)
            if self._frames is not None:
                grown[..., : self._count] = self._frames[..., : self._count]
            self._frames = grown
        self._frames[..., self._count : needed] = described
        self._count = needed

    def _described_frames(self) -> Array:
        if self._frames is None:
            rest = self._rest if self._rest.shape[1] else np.zeros((len(self._rest), 1))
            return self._described(rest[:, None])
        return self._frames[..., : self._count]


def _noise_std(frames: Array) -> Array:
    """Deviation of the white noise in frames (..., n): median magnitude of high differences.

    Fourth differences hold little of a signal that is well sampled, and a median little of its
    steps (Donoho and Johnstone 1994 do so on the finest wavelets).
    """
    if frames.shape[-1] < len(DIFFERENCE):
        return np.zeros(frames.shape[:-1])
    windows = np.lib.stride_tricks.sliding_window_view(frames, len(DIFFERENCE), axis=-1)
    return np.asarray(np.median(np.abs(windows @ DIFFERENCE), axis=-1) / NORMAL_MEDIAN)


def rms(frames: Array) -> Array:
    """Root mean squares of frames (..., n), without overflow of the squares."""
    peaks = np.abs(frames).max(axis=-1, keepdims=True).astype(np.float64)
    scaled = frames / np.where(peaks > 0, peaks, 1)
    return np.asarray(peaks[..., 0] * np.sqrt(np.square(scaled).mean(axis=-1)))
