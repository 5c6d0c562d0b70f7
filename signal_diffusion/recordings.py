"""Recordings in audio files: read, resample, write, keeping rate, channels and sample format."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from signal_diffusion.errors import InputError

Samples = NDArray[np.float32]

#: Containers by suffix: the first is written unless the recording came in another of them.
CONTAINERS: dict[str, tuple[str, ...]] = {
    ".wav": ("WAV", "WAVEX", "RF64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".oga": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3",),
    ".aiff": ("AIFF",),
    ".aif": ("AIFF",),
    ".au": ("AU",),
    ".caf": ("CAF",),
    ".w64": ("W64",),
    ".rf64": ("RF64",),
}
INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
FLOATS = ("FLOAT", "DOUBLE")
#: Sample formats that are kept. Block codecs such as ADPCM are not: they would pad the length.
KEPT = {*INTEGER_BITS, *FLOATS, "ULAW", "ALAW", "VORBIS", "OPUS"}
BLOCK = 1 << 20
UNKNOWN_FRAMES = 1 << 62


@dataclass(frozen=True)
class Recording:
    """Samples of a recording and the form that they were stored in.

    Attributes:
        samples: (C, L) float32, where integer formats span [-1, 1).
        sample_rate: Hz.
        container: libsndfile's name of the file format, e.g. "WAV" or "FLAC".
        subtype: libsndfile's name of the sample format, e.g. "PCM_16" or "FLOAT".

    >>> import numpy as np
    >>> Recording(np.zeros((2, 8000), np.float32), 16000).duration
    0.5
    """

    samples: Samples
    sample_rate: int
    container: str = "WAV"
    subtype: str = "PCM_16"

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples.shape[-1] / self.sample_rate


def read(path: str | Path) -> Recording:
    """Read an audio file of any format that libsndfile knows.

    Raises:
        InputError: there is no such file, it is no audio, is cut short, or holds no finite samples.
    """
    path = Path(path)
    _require_file(path)
    with _opened(path) as file:
        samples = _samples(path, file)
        recording = Recording(samples, file.samplerate, file.format, file.subtype)
    if samples.shape[1] == 0:
        raise InputError(f"{path} holds no samples: there is nothing to process")
    if not np.isfinite(samples).all():
        raise InputError(f"{path} holds NaN or infinite samples: replace them first")
    return recording


def write(path: str | Path, recording: Recording, *, force: bool = False) -> None:
    """Write a recording in the container of the path's suffix, whole or not at all.

    The sample format is kept where the container can hold it. Integer formats are rounded and
    clipped to [-1, 1].

    Args:
        path: output file; it appears under its name once it is complete.
        recording: what to write.
        force: replace a file that exists.

    Raises:
        InputError: the file exists, or the folder, suffix or format can't be written.
    """
    path = Path(path)
    check_output(path, recording, force=force)
    with _beside(path) as partial:
        _store(partial, _stored_as(path, recording))
        os.replace(partial, path)


def check_output(path: str | Path, recording: Recording, *, force: bool = False) -> None:
    """Raise `write`'s errors now, by writing an empty file of the same form beside the path."""
    path = Path(path)
    stored = _stored_as(path, recording)
    if not os.path.isdir(path.parent):
        raise InputError(f"{path} can't be written: there is no folder {path.parent}")
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder: name the file to write")
    if os.path.exists(path) and not force:
        raise InputError(f"{path} exists: pass force=True (--force) to replace it")
    with _beside(path) as partial:
        _store(partial, replace(stored, samples=stored.samples[:, :0]))


def resample(samples: Samples, source_rate: float, target_rate: float) -> Samples:
    """Samples (C, L) at another rate, (C, ceil(L target_rate / source_rate)), without delay.

    A linear-phase band-limited interpolation (soxr, very high quality). Rates in Hz.

    >>> import numpy as np
    >>> resample(np.zeros((1, 44101), np.float32), 44100, 16000).shape
    (1, 16001)
    """
    if source_rate == target_rate:
        return samples
    length = math.ceil(samples.shape[1] * target_rate / source_rate)
    # soxr rounds the length down: a few zeros after the end keep the last sample.
    tail = math.ceil(source_rate / target_rate) + 1
    padded = np.pad(samples, ((0, 0), (0, tail))).T
    resampled = soxr.resample(padded, source_rate, target_rate, "VHQ")
    return np.ascontiguousarray(resampled.T[:, :length])


def _require_file(path: Path) -> None:
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder: name one audio file")
    if not os.path.exists(path):
        raise InputError(f"{path}: there is no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        with path.open("rb"), soundfile.SoundFile(os.fspath(path)) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    except (soundfile.SoundFileError, TypeError) as error:
        raise InputError(f"{path} is no audio file or is damaged ({_reason(error)})") from error


def _samples(path: Path, file: soundfile.SoundFile) -> Samples:
    """All frames (C, L), read in blocks, since a header may promise more than memory holds."""
    blocks = [np.empty((0, file.channels), np.float32)]
    try:
        while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block)
    except soundfile.SoundFileError as error:
        raise InputError(f"{path} is cut short or damaged ({_reason(error)})") from error
    samples = np.ascontiguousarray(np.concatenate(blocks).T)
    if samples.shape[1] < file.frames < UNKNOWN_FRAMES:
        raise InputError(
            f"{path} is cut short: its header promises {file.frames} frames, it holds "
            f"{samples.shape[1]}"
        )
    return samples


def _stored_as(path: Path, recording: Recording) -> Recording:
    """The recording with the container of the path's suffix and a sample format it can hold."""
    family = CONTAINERS.get(path.suffix.lower())
    if family is None:
        known = " ".join(CONTAINERS)
        raise InputError(f"{path} has no suffix of an audio format: use one of {known}")
    container = recording.container if recording.container in family else family[0]
    return replace(recording, container=container, subtype=_subtype(path, container, recording))


def _subtype(path: Path, container: str, recording: Recording) -> str:
    if path.suffix.lower() == ".opus":
        return "OPUS"
    if recording.subtype in KEPT and soundfile.check_format(container, recording.subtype):
        return recording.subtype
    deep = recording.subtype in (*FLOATS, "PCM_32")
    if deep and soundfile.check_format(container, "PCM_24"):
        return "PCM_24"
    return str(soundfile.default_subtype(container))


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new file in the path's folder, gone at the end unless it was renamed."""
    # As long as the name that it stands for, so that a name too long fails here.
    partial = path.with_name(f".{secrets.token_hex(8)}".ljust(len(path.name), "_"))
    try:
        partial.open("xb").close()
        yield partial
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _store(path: Path, recording: Recording) -> None:
    frames = _quantised(recording.samples.T, recording.subtype)
    rate, container, subtype = recording.sample_rate, recording.container, recording.subtype
    try:
        soundfile.write(os.fspath(path), frames, rate, format=container, subtype=subtype)
    except soundfile.SoundFileError as error:
        form = f"{subtype} of {frames.shape[1]} channels at {rate} Hz"
        raise InputError(f"{container} can't hold {form} ({_reason(error)})") from error


def _quantised(frames: Samples, subtype: str) -> NDArray[np.generic]:
    """Frames as libsndfile takes them without loss: it would truncate floats, not round them."""
    if subtype in FLOATS:
        return frames
    if subtype not in INTEGER_BITS:
        return np.clip(frames, -1, 1)
    bits = INTEGER_BITS[subtype]
    full = 1 << (bits - 1)
    levels = np.rint(frames.astype(np.float64) * full).clip(-full, full - 1)
    return levels.astype(np.int32) << (32 - bits)


def _reason(error: Exception) -> str:
    return " ".join(str(error).rpartition(": ")[2].split()).rstrip(".")
