"""How far notes are off the pitch that they should have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from signal_diffusion.dsp import Array

#: Hz that pitches are looked for between, and samples of a frame a period of the lowest.
LOWEST, HIGHEST, PERIODS = 32.0, 2500.0, 4
#: Frames that are fainter than a note's loudest by so many dB don't count.
RANGE_DB = 20.0


def cents_off(signals: Array, pitches: Sequence[float], *, sample_rate: int) -> Array:
    """Cents (n,) that notes (n, L) are above their pitches, MIDI numbers with 69 for 440 Hz.

    The median over a note's loud frames of the pitch by YIN (de Cheveigné and Kawahara 2002), which
    is right within 5 cents.

    >>> tone = np.sin(2 * np.pi * 466.16 * np.arange(16000) / 16000)
    >>> bool(abs(cents_off(tone[None], [69], sample_rate=16000)[0] - 100) < 5)
    True
    """
    import librosa

    frame = 2 ** round(np.log2(PERIODS * sample_rate / LOWEST))
    hop = frame // 4
    found = librosa.yin(
        np.asarray(signals, np.float32),
        fmin=LOWEST,
        fmax=min(HIGHEST, sample_rate / 2),
        sr=sample_rate,
        frame_length=frame,
        hop_length=hop,
    )
    level = librosa.feature.rms(y=signals, frame_length=frame, hop_length=hop)[:, 0]
    loud = level >= level.max(axis=1, keepdims=True) * 10 ** (-RANGE_DB / 20)
    middle = np.array([np.median(row[kept]) for row, kept in zip(found, loud, strict=True)])
    return 1200 * np.log2(middle / 440) - 100 * (np.asarray(pitches) - 69)


def pitch_scores(cents: Array) -> dict[str, float]:
    """Of notes so many cents off (n,): the median error, the share within 50, and octave errors.

    What lies nearer to another octave than to the note's own counts as an octave error, and its
    distance from that octave as its error.

    >>> pitch_scores(np.array([3.0, -5.0, 1206.0, 100.0]))
    {'pitch_error_cents': 5.5, 'within_50_cents': 0.75, 'octave_errors': 0.25}
    """
    within = (cents + 600) % 1200 - 600
    return {
        "pitch_error_cents": round(float(np.median(np.abs(within))), 2),
        "within_50_cents": round(float((np.abs(within) <= 50).mean()), 4),
        "octave_errors": round(float((np.abs(cents) > 600).mean()), 4),
    }
