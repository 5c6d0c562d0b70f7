"""The level that a denoiser gets a recording at, and the gain of what lies above its band."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import Buffer
from signal_diffusion.dsp.drift import DriftFilter
from signal_diffusion.dsp.levels import FRAME, LOUD, LevelMeter, rms
from signal_diffusion.model_facts import AUDIO_DOMAINS


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


def drift_filter(denoiser: Denoiser, channels: int) -> DriftFilter | None:
    """What takes offset and drift off a recording, for denoisers of sound: voices have none."""
    sound = denoiser.domain in AUDIO_DOMAINS and denoiser.offset is None
    return DriftFilter(channels) if sound else None


def gain_to(target_db: float, level_db: Array | float) -> Any:
    """The factor that brings a level in dB to another."""
    return 10 ** ((target_db - np.asarray(level_db, np.float64)) / 20)


class Constant:
    """One gain for a whole recording, or one for each channel (C, 1): see `Running`."""

    ahead = 0

    def __init__(self, gain: Array | float) -> None:
        self.gain = gain

    def push(self, x: Array) -> Array:
        return _scaled(x, self.gain)

    def flush(self) -> Array | None:
        return None

    def take(self, count: int) -> Array | float:
        gain = np.asarray(self.gain)
        return gain[..., None] if gain.ndim else self.gain


class Running:
    """A gain that follows the level so far, for streams whose level is not known.

    Samples (C, n) go in by `push`, and levelled ones come out, as float32. `take` returns the gain
    of the next samples, broadcastable with them, in the order that they left in.

    The level is that of the loud frames of the last `MEMORY` frames, or the median of the last
    `ATTACK` if that is higher; it falls by `RELEASE_DB` a frame at most, and counts as `LOWEST_DB`
    at least. The gain of a frame goes by the level `ATTACK` frames later, so that it has fallen
    before a voice begins, and moves linearly between frames; the first samples, which the denoiser
    waits for anyway, have one gain.

    Args:
        target_db: level that the denoiser was trained at.
        first: samples that have one gain.

    Attributes:
        ahead: samples after one that its gain depends on.
    """

    #: Ten seconds, and 0.1 dB a second, at 16 kHz.
    MEMORY = 312
    RELEASE_DB = 0.0032
    #: Frames, a quarter of a second, half of which raise the level at once.
    ATTACK = 8
    #: dB of full scale: noise that is fainter is not taken for a voice.
    LOWEST_DB = -55.0

    def __init__(self, target_db: float, *, first: int) -> None:
        self.target_db = target_db
        self.first = max(first // FRAME, 1) * FRAME
        self.ahead = self.ATTACK * FRAME
        self._frames: deque[float] = deque(maxlen=self.MEMORY)
        self._level = self.LOWEST_DB
        self._rest: Array | None = None
        self._waiting, self._gains = Buffer(), Buffer()
        self._levels: deque[float] = deque()
        self._last: float | None = None

    def push(self, x: Array) -> Array:
        self._waiting.push(x)
        self._measure(x)
        if self._last is None:
            if len(self._waiting) < self.first + self.ahead:
                return x[:, :0].astype(np.float32)
            return self._begin(self.first)
        return self._follow()

    def flush(self) -> Array | None:
        if not len(self._waiting):
            return None
        if self._rest is not None and self._rest.shape[1]:
            self._follow_level(self._rest)
        if self._last is None:
            return self._begin(len(self._waiting))
        # The last frames go by the last level.
        missing = -(-len(self._waiting) // FRAME) - len(self._levels)
        self._levels.extend([self._level] * max(missing, 0))
        return self._follow(whole=False)

    def take(self, count: int) -> Array:
        return self._gains.take(count)

    def _begin(self, count: int) -> Array:
        """The first samples, whose gain is that of the level once they have been heard."""
        frames = min(count // FRAME + self.ATTACK, len(self._levels))
        for _ in range(frames):
            self._last = self._levels.popleft()
        if self._last is None:
            self._last = self._level
        first = self._levelled(self._waiting.take(count), np.full(count, self._gain(self._last)))
        return np.concatenate([first, self._follow()], axis=-1)

    def _follow(self, *, whole: bool = True) -> Array:
        """Frames whose levels are known, each with a gain that moves to that of its level."""
        assert self._last is not None
        there = len(self._waiting)
        frames = min(len(self._levels), there // FRAME if whole else -(-there // FRAME))
        gains = []
        for _ in range(frames):
            level = self._levels.popleft()
            ends = self._gain(self._last), self._gain(level)
            gains.append(np.linspace(*ends, FRAME, endpoint=False))
            self._last = level
        ramp = np.concatenate(gains) if gains else np.zeros(0)
        x = self._waiting.take(min(frames * FRAME, there))
        return self._levelled(x, ramp[: x.shape[1]])

    def _measure(self, x: Array) -> None:
        """The level after each whole frame of what has come."""
        x = x if self._rest is None else np.concatenate([self._rest, x], axis=-1)
        whole = x.shape[1] // FRAME * FRAME
        for start in range(0, whole, FRAME):
            self._follow_level(x[:, start : start + FRAME])
        self._rest = x[:, whole:]

    def _follow_level(self, frame: Array) -> None:
        self._frames.append(float(rms(frame).max()))
        energies = np.square(self._frames)
        loud = max(np.quantile(energies, LOUD), np.median(energies[-self.ATTACK :]))
        level = 10 * math.log10(max(float(loud), 10 ** (self.LOWEST_DB / 10)))
        self._level = max(level, self._level - self.RELEASE_DB)
        self._levels.append(self._level)

    def _gain(self, level: float) -> float:
        return float(10 ** ((self.target_db - level) / 20))

    def _levelled(self, x: Array, gains: Array) -> Array:
        self._gains.push(gains)
        return _scaled(x, gains)


def _scaled(x: Array, gain: Array | float) -> Array:
    # In float64, since a gain that lifts denormal numbers is out of the range of float32.
    return np.multiply(x, gain, dtype=np.float64).astype(np.float32)


#: Samples of a frame whose top octave is measured, and between two.
WINDOW, HOP = 512, 256
#: Frames on either side that a frame's energies are averaged with.
SMOOTHED = 3
#: Model samples that the gain at a time needs to know after it.
LAG = (SMOOTHED + 2) * HOP
#: Level under the recording's loud frames at which the top octave counts as empty, in dB.
EMPTY_DB = -60.0


class UpperBand:
    """The gain of the band above, per sample, from the levelled input and its estimates.

        g = min(1, sqrt((E_hat + e) / (E + e)))

    with E and E_hat the energies of the highest octave that both the recording and the denoiser
    have, smoothed over frames of 32 ms at 16 kHz, and e the energy of an octave that is empty:
    there the gain is 1. Between frames it is interpolated linearly.

    Args:
        model_rate, rate: of the denoiser and of the recording, Hz.
        level_db: level that recordings are brought to, dB.
    """

    def __init__(self, model_rate: float, rate: float, *, level_db: float) -> None:
        self.step = model_rate / rate
        top = min(model_rate, rate) / 2
        frequencies = np.fft.rfftfreq(WINDOW, 1 / model_rate)
        self._octave = (frequencies >= top / 2) & (frequencies <= top)
        hann = np.hanning(WINDOW + 1)[:-1]
        self._taper = (hann / np.sqrt(np.square(hann).sum() * WINDOW / 2)).astype(np.float32)
        self._empty = 10 ** ((level_db + EMPTY_DB) / 10)
        weights = np.hanning(2 * SMOOTHED + 3)[1:-1]
        self._weights = weights / weights.sum()
        self._signals, self._energies, self._gains = Buffer(), Buffer(), Buffer()
        self._dropped = 0
        self._begun = self._over = False

    def push(self, x: Array, x_hat: Array) -> None:
        """Take in levelled samples (C, n) and their estimates (C, shots, n)."""
        signals = np.concatenate([x[:, None], x_hat], axis=1)
        if not self._begun:
            self._energies.push(np.zeros((*signals.shape[:2], SMOOTHED)))
            self._begun = True
        self._signals.push(signals)
        self._measure()

    def flush(self) -> None:
        """Take in that the recording is over."""
        ends = self._signals.peek(0).shape[:2]
        only = self._dropped + len(self._gains) == 0 and len(self._energies) == SMOOTHED
        if len(self._signals) > WINDOW - HOP or only:
            short = WINDOW - len(self._signals)
            self._signals.push(np.zeros((*ends, short), np.float32))
            self._measure()
        self._energies.push(np.zeros((*ends, SMOOTHED)))
        self._smooth()
        self._over = True

    def ready(self, position: int) -> int:
        """Samples of the recording from `position` on whose gain is known."""
        if self._over:
            return 1 << 62
        frames = self._dropped + len(self._gains)
        last = (frames - 1) * HOP + WINDOW // 2
        return max(0, int(last / self.step) - position) if frames else 0

    def take(self, position: int, count: int) -> Array:
        """The gains (C, shots, count) from a position of the recording on; none before it again."""
        frame = ((np.arange(position, position + count) * self.step) - WINDOW // 2) / HOP
        gains = self._gains.peek(len(self._gains))
        at = np.clip(frame - self._dropped, 0, gains.shape[-1] - 1)
        low = at.astype(np.int64)
        high = np.minimum(low + 1, gains.shape[-1] - 1)
        part = (at - low).astype(np.float32)
        taken = gains[..., low] * (1 - part) + gains[..., high] * part
        self._forget(int(frame[-1]) - self._dropped if count else 0)
        return np.asarray(taken)

    def _measure(self) -> None:
        """The energies of the frames whose samples are there."""
        frames = (len(self._signals) - WINDOW) // HOP + 1
        if frames <= 0:
            return
        x = self._signals.peek((frames - 1) * HOP + WINDOW)
        windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=-1)[..., ::HOP, :]
        spectra = np.fft.rfft(windows * self._taper, axis=-1)[..., self._octave]
        self._energies.push(np.square(np.abs(spectra)).sum(axis=-1))
        self._signals.take(frames * HOP)
        self._smooth()

    def _smooth(self) -> None:
        """The gains of the frames whose neighbours are known."""
        span = len(self._weights)
        frames = len(self._energies) - span + 1
        if frames <= 0:
            return
        energies = self._energies.peek(len(self._energies))
        near = np.lib.stride_tricks.sliding_window_view(energies, span, axis=-1) @ self._weights
        kept = (near[:, 1:] + self._empty) / (near[:, :1] + self._empty)
        self._gains.push(np.sqrt(kept.clip(0, 1)).astype(np.float32))
        self._energies.take(frames)

    def _forget(self, frames: int) -> None:
        """Drop the gains of frames that lie before the last sample that was asked for."""
        stale = min(frames, len(self._gains) - 1)
        if stale > 0:
            self._gains.take(stale)
            self._dropped += stale
