"""The level that a denoiser gets a recording at, and the gain of what lies above its band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import Buffer, Windows
from signal_diffusion.dsp.levels import FRAME, SILENCE_DB, LevelMeter, rms
from signal_diffusion.model_facts import AUDIO_DOMAINS

#: The least magnitude whose level is taken.
TINY = 1e-300


@dataclass(frozen=True)
class Normal:
    """What brings a recording to a denoiser: `(x - offset) gain`, shaped (C, 1) or plain numbers.

    Attributes:
        gain, offset: of the channels.
        follows: whether the gain follows the level within the recording, see `Following`.

    >>> Normal(gain=2.0)
    Normal(gain=2.0, offset=0.0, follows=False)
    """

    gain: Array | float = 1.0
    offset: Array | float = 0.0
    follows: bool = False


def normal_of(meter: LevelMeter, denoiser: Denoiser, *, noise_std: float | None = None) -> Normal:
    """What a meter found, for a denoiser: of each channel, except for unpaired processes.

    Args:
        noise_std: of the recording in its own units, if it is known; for denoisers that go by it.
    """
    target_db, levels_db = denoiser.level_db, meter.levels_db[:, None]
    if meter.centred and denoiser.noise_std is not None:
        own = meter.noise_std if noise_std is None else np.full(len(meter.peaks), noise_std)
        return Normal(denoiser.noise_std / np.where(own > 0, own, 1)[:, None], meter.offsets)
    if target_db is None:
        return Normal(offset=meter.offsets)
    if not meter.centred and not denoiser.schedule.paired:
        # The sampler's times, which all channels share, go by the gain.
        return Normal(gain_to(target_db, levels_db.max()))
    return Normal(gain_to(target_db, levels_db), meter.offsets, follows=not meter.centred)


def of_sound(denoiser: Denoiser) -> bool:
    """Whether offset and drift of recordings must not reach a denoiser: voices have none."""
    return denoiser.domain in AUDIO_DOMAINS and denoiser.offset is None


def gain_to(target_db: float, level_db: Array | float) -> Any:
    """The factor that brings a level in dB to another."""
    return 10 ** ((target_db - np.asarray(level_db, np.float64)) / 20)


class Constant:
    """One gain for a whole recording, or one for each channel (C, 1): see `Following`."""

    ahead = 0

    def __init__(self, gain: Array | float) -> None:
        self.gain = np.asarray(gain, np.float64)

    def push(self, x: Array, measured: Array, *, last: bool = False) -> Array:
        return _scaled(x, self.gain)

    def take(self, count: int) -> Array:
        return self.gain


class Following:
    """A gain for each channel that follows its level, for recordings of voices unlike each other.

    Samples (C, n) go in by `push`, with those (C, m) whose level counts and which may be ahead of
    them, and levelled ones come out, as float32. `take` returns the gains (C, n) of the next
    samples, in the order that they left in.

    The level of a frame is the lowest, over all spans of frames that hold it, of the highest in the
    span, medians over seven: fainter sound that is shorter is a pause, and a faint voice has its
    own level from where a loud one ends. While this level is within `SLACK_DB` of the channel's
    reference the gain is constant. Beyond, it moves by the rest: within a frame, and before the
    first louder one.

    Args:
        target_db: level that the denoiser was trained at.
        channels: C.
        reference_db: levels (C, 1) of the loud frames of a whole recording. None is for streams,
            that look ahead `AHEAD` frames: the highest level so far, less `RELEASE_DB` a frame.
        first: samples where a stream begins whose highest level counts for what was before.

    Attributes:
        ahead: samples after one that its gain depends on.
    """

    #: Frames on either side in a median, and those of a span: 2 s at 16 kHz, 0.6 s in streams.
    AROUND, SPAN, STREAM_SPAN = 3, 62, 20
    #: A quarter of a second at 16 kHz.
    AHEAD = 8
    #: dB under its own level that sound counts at which is shorter than a median.
    CLICK_DB = 12.0
    #: dB that a voice may be fainter or louder than the reference: networks bear that.
    SLACK_DB = 6.0
    #: dB under the reference of the faintest voice.
    RANGE_DB = 40.0
    #: Half a dB a second at 16 kHz.
    RELEASE_DB = 0.016

    def __init__(
        self, target_db: float, channels: int, *, reference_db: Array | None = None, first: int = 0
    ) -> None:
        self.target_db, self._stream = target_db, reference_db is None
        span = self.STREAM_SPAN if self._stream else self.SPAN
        after = self.AHEAD - self.AROUND - 2 if self._stream else span - 1
        self.ahead = (self.AROUND + after + 2) * FRAME
        self._medians = Windows(self._without_clicks, before=self.AROUND, after=self.AROUND)
        self._highest = Windows(np.max, before=span - 1, after=0)
        self._lowest = Windows(np.min, before=0, after=after)
        self._risen = Windows(np.max, before=0, after=1)
        self._rest = self._beginning = self._gain = np.zeros((channels, 0))
        self._first = first // FRAME + after + 1
        self._floor = SILENCE_DB if self._stream else -np.inf
        low = np.full((channels, 1), SILENCE_DB)
        self._reference = low if reference_db is None else reference_db
        self._waiting, self._ramps, self._gains = Buffer(), Buffer(), Buffer()

    def push(self, x: Array, measured: Array, *, last: bool = False) -> Array:
        self._waiting.push(x)
        measured = np.concatenate([self._rest, measured], axis=1)
        whole = measured.shape[1] // FRAME * FRAME
        self._rest = measured[:, whole:]
        loudness = rms(measured[:, :whole].reshape(len(measured), -1, FRAME))
        if last and self._rest.shape[1]:
            loudness = np.concatenate([loudness, rms(self._rest[:, None])], axis=1)
        levels = self._levels(20 * np.log10(np.maximum(loudness, TINY)), last)
        self._move(gain_to(self.target_db, levels))
        count = min(len(self._ramps), len(self._waiting))
        gains = self._ramps.take(count)
        self._gains.push(gains)
        return _scaled(self._waiting.take(count), gains)

    def take(self, count: int) -> Array:
        return self._gains.take(count)

    def _move(self, gains: Array) -> None:
        """The gain moves to those of the next frames (C, m), one after the other."""
        ends = np.concatenate([self._gain if self._gain.size else gains[:, :1], gains], axis=1)
        self._gain = ends[:, -1:]
        ramps = ends[:, :-1, None] + np.diff(ends)[..., None] * (np.arange(FRAME) / FRAME)
        self._ramps.push(ramps.reshape(len(ends), -1))

    def _without_clicks(self, windows: Array, axis: int) -> Array:
        """Medians of windows (C, n, k), and of what is shorter as much as counts."""
        return np.maximum(np.median(windows, axis), windows[..., self.AROUND] - self.CLICK_DB)

    def _levels(self, x: Array, last: bool) -> Array:
        """The levels (C, m) in dB that become known by those of frames (C, k)."""
        x = self._medians.push(x, last=last)
        start = None
        if self._first:
            x = self._beginning = np.concatenate([self._beginning, x], axis=1)
            if x.shape[1] < self._first and not last:
                return x[:, :0]
            start = x[:, : self._first].max(axis=1, keepdims=True)
            if self._stream:
                # What a stream waits for anyway has one gain.
                x[:, : self._first] = start
            self._first = 0
        x = self._lowest.push(self._highest.push(x, start=start), last=last)
        x = np.maximum(x, self._floor)
        reference = self._referred(x) if self._stream else self._reference
        x = np.maximum(np.clip(reference, x - self.SLACK_DB, x + self.SLACK_DB), self._floor)
        return self._risen.push(np.maximum(x, reference - self.RANGE_DB), last=last)

    def _referred(self, x: Array) -> Array:
        """The highest levels so far, falling."""
        fallen = self.RELEASE_DB * np.arange(x.shape[1] + 1)
        both = np.concatenate([self._reference, x], axis=1) + fallen
        reference = np.maximum.accumulate(both, axis=1) - fallen
        self._reference = reference[:, -1:]
        return reference[:, 1:]


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
