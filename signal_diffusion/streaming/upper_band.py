"""How much of what lies above a denoiser's band is kept: as much as it kept of its top octave."""

from __future__ import annotations

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import Buffer

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
