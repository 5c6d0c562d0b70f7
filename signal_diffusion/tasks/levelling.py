"""The level that a recording is brought to before a denoiser sees it, and the way back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.levels import FRAME, LOUD, SILENCE_DB, LevelMeter, rms
from signal_diffusion.tasks.buffers import Array, Buffer


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


def normal_of(meter: LevelMeter, denoiser: Denoiser, *, noise_std: float | None = None) -> Normal:
    """What a meter found, for a denoiser: of each channel if it is centred.

    Args:
        noise_std: of the recording in its own units, if it is known; for denoisers that go by it.
    """
    target_db = denoiser.level_db
    if not meter.centred:
        return normal_at(target_db, meter.level_db)
    if denoiser.noise_std is not None:
        own = meter.noise_std if noise_std is None else np.full(len(meter.peaks), noise_std)
        return Normal(denoiser.noise_std / np.where(own > 0, own, 1)[:, None], meter.offsets)
    gains = 1.0 if target_db is None else gain_to(target_db, meter.levels_db[:, None])
    return Normal(gains, meter.offsets)


def gain_to(target_db: float, level_db: Array | float) -> Any:
    """The factor that brings a level in dB to another."""
    return 10 ** ((target_db - np.asarray(level_db, np.float64)) / 20)


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
        self._frames.append(float(rms(frame).max()))
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
