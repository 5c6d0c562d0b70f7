"""How strongly an encoder compresses: about as strongly as the recording was."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import mutagen
import numpy as np
import soundfile

from signal_diffusion.audio.forms import Form, native

#: Of libsndfile's compression from 0, the best, to 1, where the source's bit rate is not known.
GOOD = {"VORBIS": 0.4, "OPUS": 0.6, "MPEG_LAYER_III": 0.2}
#: kbit/s that a tenth more of compression leaves of noise in MP3, of two channels at 44100 Hz.
MP3_RATES = (254, 210, 186, 172, 147, 124)
#: kbit/s. Below, Opus encodes speech by a model whose delay is not the one in the header.
OPUS_FLOOR = 64
KILO = 1000.0


def compression(form: Form, like: Path | None) -> tuple[float | None, str | None]:
    """libsndfile's level and mode of compression; None for what is not compressed.

    Args:
        form: of the file to write.
        like: the recording whose bit rate is kept, if it is compressed in the same way.
    """
    if form.subtype not in GOOD:
        return None, None
    rate = None if like is None else bit_rate(like, form.subtype)
    level = GOOD[form.subtype] if rate is None else LEVELS[form.subtype](form, rate / KILO)
    # At constant and average bit rates, Lame lowers the level by up to 0.4 dB.
    return level, "VARIABLE" if form.subtype == "MPEG_LAYER_III" else None


def bit_rate(path: Path, subtype: str) -> float | None:
    """Bits per second of a file compressed by that codec; None if it is of another one.

    Raises:
        soundfile.SoundFileError, mutagen.MutagenError: it can't be read.
    """
    info = soundfile.info(native(path))
    if info.subtype != subtype or not info.frames:
        return None
    rates = getattr(getattr(mutagen.File(path), "info", None), "bitrate", 0)
    return float(rates or 8 * path.stat().st_size * info.samplerate / info.frames)


def _mp3_level(form: Form, kilobits: float) -> float:
    usual = kilobits * 2 * 44100 / (form.channels * form.sample_rate)
    return float(np.interp(-usual, -np.array(MP3_RATES), np.arange(len(MP3_RATES)) / 10))


def _opus_level(form: Form, kilobits: float) -> float:
    each = np.clip(kilobits / form.channels, OPUS_FLOOR, 256)
    return float((256 - each) / 250)


def _vorbis_level(form: Form, kilobits: float) -> float:
    rates = _vorbis_rates(form.sample_rate, form.channels)
    return float(np.interp(-kilobits, -np.array(rates), np.linspace(0, 1, len(rates))))


@lru_cache(maxsize=64)
def _vorbis_rates(sample_rate: int, channels: int) -> list[float]:
    """kbit/s that the encoder's header tells for each tenth of compression."""
    rates = []
    for tenth in range(11):
        file = io.BytesIO()
        soundfile.SoundFile(
            file, "w", sample_rate, channels, "VORBIS", format="OGG", compression_level=tenth / 10
        ).close()
        head = file.getvalue().partition(b"\x01vorbis")[2]
        rates.append(int.from_bytes(head[13:17], "little", signed=True) / KILO)
    return rates


LEVELS = {"VORBIS": _vorbis_level, "OPUS": _opus_level, "MPEG_LAYER_III": _mp3_level}
