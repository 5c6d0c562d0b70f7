"""The level that a recording is brought to before a denoiser sees it, and the way back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from signal_diffusion.levels import SILENCE_DB
from signal_diffusion.tasks.buffers import Array, Buffer

#: Samples of the frames whose levels count, as in `levels.level_db`.
FRAME = 512
#: Least level of the loud frames under the peak, in dB, that normalisation reckons with.
LOWEST_DB = -40.0
#: Share of the frames that are not louder than the level.
LOUD = 0.95


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
        self._peaks = np.zeros((2, channels))
        self._frames: list[Array] = []

    def push(self, block: Array) -> None:
        """Take in samples (C, n)."""
        x = np.concatenate([self._rest, block], axis=-1)
        whole = x.shape[1] // self.frame * self.frame
        self._rest = x[:, whole:]
        peaks = [block.max(axis=1, initial=-np.inf), -block.min(axis=1, initial=np.inf)]
        first = not self._frames and not self._peaks.any()
        self._peaks = np.array(peaks) if first else np.maximum(self._peaks, peaks)
        if whole:
            self._frames.append(self._described(x[:, :whole].reshape(len(x), -1, self.frame)))

    @property
    def offsets(self) -> Array:
        """The channels' medians (C, 1), by the medians of frames; zeros unless centred."""
        if not self.centred:
            return np.zeros((len(self._rest), 1))
        return np.asarray(np.median(self._described_frames()[2], axis=-1, keepdims=True))

    @property
    def peaks(self) -> Array:
        """Largest magnitudes (C,), about the offsets."""
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
    def level_db(self) -> float:
        """dB of full scale of the loudest channel, over the peak of all."""
        peaks = self.peaks
        if not peaks.any():
            return SILENCE_DB
        floor = LOWEST_DB + 20 * math.log10(peaks.max())
        return max(float(self.levels_db[peaks > 0].max()), floor)

    def _described(self, frames: Array) -> Array:
        """Root mean squares (1, C, n) of frames; if wanted, means and medians too (3, C, n)."""
        if not self.centred:
            # For hours of sound the levels are most of what is kept.
            return _rms(frames)[None].astype(np.float32)
        means, medians = frames.mean(axis=-1, dtype=np.float64), np.median(frames, axis=-1)
        return np.stack([_rms(frames), means, medians])

    def _described_frames(self) -> Array:
        if not self._frames:
            return self._described(self._rest[:, None])
        return np.concatenate(self._frames, axis=-1)


@dataclass(frozen=True)
class Normal:
    """What brings a recording to a denoiser: `(x - offset) gain`, shaped (C, 1) or plain numbers.

    >>> Normal(gain=2.0)
    Normal(gain=2.0, offset=0.0)
    """

    gain: Array | float = 1.0
    offset: Array | float = 0.0


def normal_at(target_db: float | None, level_db: float) -> Normal:
    """The gain that brings a level to a denoiser's."""
    return Normal() if target_db is None else Normal(gain_to(target_db, level_db))


def normal_of(meter: LevelMeter, target_db: float | None) -> Normal:
    """What a meter found, for a denoiser of a target level: of each channel if it is centred."""
    if not meter.centred:
        return normal_at(target_db, meter.level_db)
    gains = 1.0 if target_db is None else gain_to(target_db, meter.levels_db[:, None])
    return Normal(gains, meter.offsets)


def gain_to(target_db: float, level_db: Array | float) -> Any:
    """The factor that brings a level in dB to another."""
    return 10 ** ((target_db - np.asarray(level_db, np.float64)) / 20)


def _rms(frames: Array) -> Array:
    """Root mean squares of frames (..., n), without overflow of the squares."""
    peaks = np.abs(frames).max(axis=-1, keepdims=True).astype(np.float64)
    scaled = frames / np.where(peaks > 0, peaks, 1)
    return np.asarray(peaks[..., 0] * np.sqrt(np.square(scaled).mean(axis=-1)))


class Gain(ABC):
    """What brings a recording to the denoiser's level: samples (C, n) in, levelled ones out."""

    @abstractmethod
    def push(self, x: Array) -> Array:
        """The levelled samples that are known once a block has come, float32."""

    @abstractmethod
    def flush(self) -> Array | None:
        """The rest, once the recording is over."""

    @abstractmethod
    def take(self, count: int) -> Array | float:
        """The gain of the next samples, broadcastable with them, in the order that they left in."""


class Constant(Gain):
    """One gain for a whole recording, or one for each channel (C, 1)."""

    def __init__(self, gain: Array | float) -> None:
        self.gain = gain

    def push(self, x: Array) -> Array:
        return _scaled(x, self.gain)

    def flush(self) -> Array | None:
        return None

    def take(self, count: int) -> Array | float:
        gain = np.asarray(self.gain)
        return gain[..., None] if gain.ndim else self.gain


class Running(Gain):
    """A gain that follows the level so far, for streams whose level is not known.

    The level is that of the loud frames of the last `MEMORY` frames, or the median of the last
    `ATTACK` if that is higher; it falls by `RELEASE_DB` a frame at most. It depends on the past
    alone, but for the first `ahead` samples, which are waited for and have one gain; between frames
    it moves linearly.

    Args:
        target_db: level that the denoiser was trained at.
        ahead: samples that the denoiser waits for anyway.
    """

    #: Ten seconds, and 0.1 dB a second, at 16 kHz.
    MEMORY = 312
    RELEASE_DB = 0.0032
    #: Frames, a quarter of a second, half of which raise the level at once.
    ATTACK = 8

    def __init__(self, target_db: float, *, ahead: int) -> None:
        self.target_db = target_db
        self.ahead = max(ahead // FRAME, 1) * FRAME
        self._frames: deque[float] = deque(maxlen=self.MEMORY)
        self._level = SILENCE_DB
        self._waiting, self._gains = Buffer(), Buffer()
        self._ramp: tuple[float, float] | None = None

    def push(self, x: Array) -> Array:
        self._waiting.push(x)
        if self._ramp is None:
            return self._begin() if len(self._waiting) >= self.ahead else x[:, :0]
        return self._follow()

    def flush(self) -> Array | None:
        if not len(self._waiting):
            return None
        if self._ramp is None:
            x = self._waiting.take(len(self._waiting))
            self._measure(x)
            return self._levelled(x, np.full(x.shape[1], self._gain()))
        x = self._waiting.take(len(self._waiting))
        return self._levelled(x, np.linspace(*self._ramp, FRAME, endpoint=False)[: x.shape[1]])

    def take(self, count: int) -> Array:
        return self._gains.take(count)

    def _begin(self) -> Array:
        """The first samples, whose gain is that of all of them."""
        x = self._waiting.take(self.ahead)
        for start in range(0, self.ahead, FRAME):
            self._measure(x[:, start : start + FRAME])
        gain = self._gain()
        self._ramp = gain, gain
        first = self._levelled(x, np.full(self.ahead, gain))
        return np.concatenate([first, self._follow()], axis=-1)

    def _follow(self) -> Array:
        """Whole frames, each with a gain that moves to what was known at its beginning."""
        assert self._ramp is not None
        x = self._waiting.take(len(self._waiting) // FRAME * FRAME)
        gains = []
        for start in range(0, x.shape[1], FRAME):
            gains.append(np.linspace(*self._ramp, FRAME, endpoint=False))
            self._measure(x[:, start : start + FRAME])
            self._ramp = self._ramp[1], self._gain()
        return self._levelled(x, np.concatenate(gains) if gains else np.zeros(0))

    def _measure(self, frame: Array) -> None:
        self._frames.append(float(_rms(frame).max()))
        energies = np.square(self._frames)
        loud = max(np.quantile(energies, LOUD), np.median(energies[-self.ATTACK :]))
        level = 10 * math.log10(max(float(loud), 10 ** (SILENCE_DB / 10)))
        self._level = max(level, self._level - self.RELEASE_DB)

    def _gain(self) -> float:
        return float(10 ** ((self.target_db - self._level) / 20))

    def _levelled(self, x: Array, gains: Array) -> Array:
        self._gains.push(gains)
        return _scaled(x, gains)


def _scaled(x: Array, gain: Array | float) -> Array:
    # In float64, since a gain that lifts denormal numbers is out of the range of float32.
    return np.multiply(x, gain, dtype=np.float64).astype(np.float32)
