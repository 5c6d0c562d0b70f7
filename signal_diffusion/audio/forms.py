"""How recordings are stored: containers, sample formats, bit rates, and what is written instead."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import soundfile

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import require_finite_result

RIFF_SUFFIXES = (".wav", ".wave", ".bwf")
#: Containers by suffix: the first is written unless the recording came in another of them.
CONTAINERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(RIFF_SUFFIXES, ("WAV", "WAVEX", "RF64")),
    ".flac": ("FLAC",),
    **dict.fromkeys((".ogg", ".oga", ".opus"), ("OGG",)),
    ".mp3": ("MP3",),
    **dict.fromkeys((".aiff", ".aif", ".aifc"), ("AIFF",)),
    **dict.fromkeys((".au", ".snd"), ("AU",)),
    ".caf": ("CAF",),
    ".w64": ("W64",),
    ".rf64": ("RF64",),
}
INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ALAC_16": 16}
FLOATS = ("FLOAT", "DOUBLE")
LOSSY = ("VORBIS", "OPUS", "MPEG_LAYER_III")
#: Sample formats that are kept. Block codecs such as ADPCM are not: they would pad the length; nor
#: ALAC of more than 16 bits: libsndfile 1.2.2 garbles noise in it.
KEPT = {*INTEGER_BITS, *FLOATS, *LOSSY, "ULAW", "ALAW"}
#: Bits worth keeping: the mantissa for floats, none where a codec has already chosen.
BITS = {**INTEGER_BITS, "ALAC_20": 20, "ALAC_24": 24, "ALAC_32": 32, "FLOAT": 25, "DOUBLE": 54}
BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
#: Containers whose sizes are stored in 32 bits, and how many bytes of sound are left to them.
SMALL = ("WAV", "WAVEX", "AIFF", "AU")
LARGEST = (1 << 32) - (1 << 24)
#: Hz. Above, libsndfile's Vorbis encoder crashes.
VORBIS_RATE = 200_000
#: Suffixes of sound, with or without pictures, that soundfile can't read.
UNREADABLE = (
    *(".3gp", ".aac", ".ac3", ".adts", ".alac", ".amr", ".ape", ".awb", ".dff", ".dsf"),
    *(".dss", ".dts", ".eac3", ".flv", ".m4a", ".m4b", ".m4r", ".m4v", ".mka", ".mkv"),
    *(".mov", ".mp4", ".mpc", ".ra", ".shn", ".spx", ".tak", ".tta", ".webm", ".wma"),
    ".wv",
)
#: Of libsndfile's compression from 0, the best, to 1, where the source's bit rate is not known.
GOOD = {"VORBIS": 0.4, "OPUS": 0.6, "MPEG_LAYER_III": 0.2}
#: kbit/s that a tenth more of compression leaves of noise in MP3, of two channels at 44100 Hz.
MP3_RATES = (254, 210, 186, 172, 147, 124)
#: kbit/s. Below, Opus encodes speech by a model whose delay is not the one in the header.
OPUS_FLOOR = 64
KILO = 1000.0


@dataclass(frozen=True)
class Form:
    """How a recording is stored.

    Attributes:
        sample_rate: Hz.
        channels: how many.
        container: libsndfile's name of the file format, e.g. "WAV" or "FLAC".
        subtype: libsndfile's name of the sample format, e.g. "PCM_16" or "FLOAT".
    """

    sample_rate: int
    channels: int
    container: str = "WAV"
    subtype: str = "PCM_16"

    @staticmethod
    def of(file: Any) -> Form:
        """The form of a file that soundfile has opened or described."""
        return Form(file.samplerate, file.channels, file.format, file.subtype)

    @property
    def dtype(self) -> str:
        """The floats that hold its samples without loss.

        >>> Form(8000, 1).dtype, Form(8000, 1, subtype="PCM_32").dtype
        ('float32', 'float64')
        """
        return "float64" if self.subtype in ("PCM_32", "ALAC_32", "DOUBLE") else "float32"

    def __str__(self) -> str:
        return f"{self.subtype} of {self.size}"

    @property
    def size(self) -> str:
        """Channels and rate in words.

        >>> Form(8000, 1).size
        '1 channel at 8000 Hz'
        """
        noun = "channel" if self.channels == 1 else "channels"
        return f"{self.channels} {noun} at {self.sample_rate} Hz"


def stored_form(
    path: Path, form: Form, *, frames: int | None = None
) -> tuple[Path, Form, str | None]:
    """The path and form that are written for a recording, and a line that says why if they differ.

    What the path's container can't hold goes to FLAC, or where that would lose bits, to WAV.

    Args:
        path: where the recording is meant to go.
        form: how it came.
        frames: its length, since some containers end at 4 GB; None where it is not known.

    Raises:
        InputError: the suffix is unknown, or no container holds so many channels at such a rate.

    >>> path, form, line = stored_form(Path("a.mp3"), Form(48000, 6))
    >>> str(path), form.container, line
    ('a.flac', 'FLAC', "a.mp3: MP3 can't hold 6 channels at 48000 Hz: a.flac is written instead")
    """
    for target in (path, path.with_suffix(".flac"), path.with_suffix(".wav")):
        kept = _kept(target, form)
        if kept is not None and (target == path or _lossless(form, kept)):
            if _too_long(kept, frames) and target.suffix.lower() in RIFF_SUFFIXES:
                kept = replace(kept, container="RF64")
            if not _too_long(kept, frames):
                return target, kept, _line(path, target, form, kept)
    raise InputError(f"{path} can't be written: no container holds {form}")


def nearest_form(path: Path, form: Form) -> Form:
    """The form in the container of the path's suffix, in a sample format that it can hold.

    Raises:
        InputError: the suffix is unknown, or the container can't hold the channels or the rate.
    """
    kept = _kept(path, form)
    if kept is None:
        last = list(_forms(path, replace(form, container=_container(path, form))))[-1]
        raise InputError(f"{path} can't be written: {_format(path, form)} can't hold {last}")
    return kept


@lru_cache(maxsize=512)
def holds(form: Form) -> bool:
    """Whether the installed libsndfile gives one frame of such a form back as one."""
    if form.subtype not in KEPT or not soundfile.check_format(form.container, form.subtype):
        return False
    if form.subtype == "VORBIS" and form.sample_rate > VORBIS_RATE:
        return False
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(
            file, "w", form.sample_rate, form.channels, form.subtype, format=form.container
        ) as writer:
            writer.write(np.zeros((1, form.channels)))
        file.seek(0)
        info = soundfile.info(file)
        return Form.of(info) == form and info.frames == 1
    except (soundfile.SoundFileError, ValueError, TypeError, OverflowError):
        return False


def require_finite(
    frames: Array, where: str, begin: int, sample_rate: float, *, later: Iterable[Array] = ()
) -> None:
    """Raise an InputError where frames (n, C) hold NaN or infinite samples.

    Args:
        where: the file, for the message.
        begin: number of the first frame in it.
        sample_rate: Hz.
        later: the frames that follow, in which such samples are counted, too.
    """
    broken = ~np.isfinite(frames)
    if broken.any():
        frame, channel = np.argwhere(broken)[0]
        count = int(broken.sum()) + sum(int((~np.isfinite(part)).sum()) for part in later)
        raise InputError(
            f"{where} holds NaN or infinite samples: {count}, the first at "
            f"{(begin + frame) / sample_rate:.4f} s in channel {channel + 1}: replace them first"
        )


def quantised(frames: Array, subtype: str) -> Array:
    """Frames (n, C) as libsndfile takes them without loss: it would truncate floats, not round.

    >>> quantised(np.array([[0.5], [2.0]]), "PCM_16") >> 16
    array([[16384],
           [32767]], dtype=int32)
    """
    require_finite_result(frames)
    if subtype in FLOATS:
        return frames
    if subtype not in INTEGER_BITS:
        return np.clip(frames, -1, 1)
    bits = INTEGER_BITS[subtype]
    full = 1 << (bits - 1)
    levels = np.rint(frames.astype(np.float64) * full).clip(-full, full - 1)
    return levels.astype(np.int32) << (32 - bits)


def _container(path: Path, form: Form) -> str:
    family = CONTAINERS.get(path.suffix.lower())
    if family is None:
        suffixes = " ".join(CONTAINERS)
        raise InputError(f"{path} has no suffix of an audio format: use one of {suffixes}")
    return form.container if form.container in family else family[0]


def _format(path: Path, form: Form) -> str:
    """The name by which people know what is written."""
    return "Opus" if path.suffix.lower() == ".opus" else _container(path, form)


def _kept(path: Path, form: Form) -> Form | None:
    """The best form that the path's container holds; None if it holds no such recording."""
    return next(filter(holds, _forms(path, replace(form, container=_container(path, form)))), None)


def _forms(path: Path, form: Form) -> Iterator[Form]:
    """What could be written in the form's container, the best first."""
    if path.suffix.lower() == ".opus":
        yield replace(form, subtype="OPUS")
        return
    yield form
    bits = BITS.get(form.subtype, 0)
    pcm = ("PCM_32", "PCM_24") if bits > 25 else ("PCM_24",) if bits > 16 else ()
    for subtype in (*pcm, soundfile.default_subtype(form.container)):
        if soundfile.check_format(form.container, subtype):
            yield replace(form, subtype=subtype)


def _lossless(form: Form, kept: Form) -> bool:
    return BITS.get(kept.subtype, 0) >= BITS.get(form.subtype, 0)


def _too_long(form: Form, frames: int | None) -> bool:
    size = (frames or 0) * form.channels * BYTES.get(form.subtype, 1)
    return form.container in SMALL and size > LARGEST


def _line(path: Path, target: Path, form: Form, kept: Form) -> str | None:
    """Why what is written differs from what was meant, unless the suffix itself asks for that."""
    meant = _format(path, form)
    if target != path:
        lacks = "4 GB of samples" if _kept(path, form) else form.size
        return f"{path}: {meant} can't hold {lacks}: {target} is written instead"
    if kept.container != _container(path, form):
        return f"{path}: {meant} can't hold 4 GB of samples: {kept.container} is written instead"
    changed = kept.container == form.container and kept.subtype != form.subtype
    if kept.subtype not in LOSSY and (changed or not _lossless(form, kept)):
        return f"{path}: {meant} can't hold {form.subtype}: {kept.subtype} is written instead"
    return None


def native(path: Path) -> str | bytes:
    """The absolute name of a file, in the bytes that the system knows it by."""
    # Absolute, since libsndfile takes the name - for a pipe; in bytes, since not all are UTF-8.
    whole = path.absolute()
    return str(whole) if os.name == "nt" else os.fsencode(whole)


def compression(form: Form, like: Path | None) -> tuple[float | None, str | None]:
    """libsndfile's level and mode of compression; None for what is not compressed.

    Args:
        form: of the file to write.
        like: the recording whose bit rate is kept, if it is compressed in the same way.
    """
    if form.subtype not in GOOD:
        return None, None
    level = GOOD[form.subtype]
    # Whatever is odd about the source's headers, its bit rate is only a wish.
    with suppress(Exception):
        rate = None if like is None else bit_rate(like, form.subtype)
        level = level if rate is None else LEVELS[form.subtype](form, rate / KILO)
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
    """kbit/s in the encoder's header for each tenth of compression."""
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
