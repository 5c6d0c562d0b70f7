"""Recordings in files: read in blocks, so that memory stays bounded, or whole."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from signal_diffusion.errors import InputError
from signal_diffusion.recordings.chunks import share_held
from signal_diffusion.recordings.forms import Form
from signal_diffusion.recordings.names import native

Samples = NDArray[Any]

BLOCK = 1 << 16
#: Of all channels, read at once: a damaged header may tell of a thousand.
BLOCK_SAMPLES = 1 << 21
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

    samples: NDArray[np.float32]
    sample_rate: int
    container: str = "WAV"
    subtype: str = "PCM_16"

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples.shape[-1] / self.sample_rate

    @property
    def form(self) -> Form:
        """How it was stored."""
        return Form(self.sample_rate, self.samples.shape[0], self.container, self.subtype)


class _Stream(soundfile.SoundFile):
    """A file that is read from its beginning to its end.

    For others soundfile seeks after each block, and MP3 loses what frames keep for later ones.
    """

    def seekable(self) -> bool:
        """False, whatever the file could do."""
        return False


class Reader:
    """A recording in a file, of any length; `opened` makes one.

    Attributes:
        path: the file.
        form: how the samples are stored.
        frames: as the header promises; None where it does not.
    """

    def __init__(self, path: Path, file: soundfile.SoundFile) -> None:
        self.path = path
        self.form = Form(file.samplerate, file.channels, file.format, file.subtype)
        self.frames = _promised(path, self.form, file.frames)

    def blocks(self, size: int = BLOCK) -> Iterator[Samples]:
        """Samples (C, n), n <= size, from the beginning on each call, in `form.dtype`.

        Raises:
            InputError: the file is cut short or damaged, or holds no samples, or NaN or infinite
                ones.
        """
        count = 0
        for frames in self._frames(size, self.form.dtype):
            if not np.isfinite(frames).all():
                raise InputError(f"{self.path} holds NaN or infinite samples: replace them first")
            count += len(frames)
            yield np.ascontiguousarray(frames.T)
        self._require_complete(count)

    def _frames(self, size: int, dtype: str) -> Iterator[Samples]:
        size = max(1, min(size, BLOCK_SAMPLES // self.form.channels))
        with _sound_file(self.path) as file:
            try:
                while len(frames := file.read(size, dtype=dtype, always_2d=True)):
                    yield frames
            except soundfile.SoundFileError as error:
                why = reason(error)
                raise InputError(f"{self.path} is cut short or damaged ({why})") from error

    def _require_complete(self, count: int) -> None:
        if count < (self.frames or 0):
            raise InputError(
                f"{self.path} is cut short: its header promises {self.frames} frames, it holds "
                f"{count}"
            )
        if count == 0:
            raise InputError(f"{self.path} holds no samples: there is nothing to process")


@contextmanager
def opened(path: str | Path) -> Iterator[Reader]:
    """Open an audio file of any format that libsndfile knows, to be read in blocks.

    Raises:
        InputError: there is no such file, or it is no audio.
    """
    path = Path(path)
    _require_file(path)
    with _sound_file(path) as file:
        yield Reader(path, file)


def read(path: str | Path) -> Recording:
    """Read an audio file of any format that libsndfile knows.

    Raises:
        InputError: there is no such file, it is no audio, is cut short, or holds no finite samples.
    """
    with opened(path) as reader:
        # In blocks, since a header may promise more than memory holds.
        blocks = [block.astype(np.float32, copy=False) for block in reader.blocks()]
        form = reader.form
    samples = np.concatenate(blocks, axis=1)
    return Recording(samples, form.sample_rate, form.container, form.subtype)


def reason(error: Exception) -> str:
    """What libsndfile says, without the path that it says it of."""
    return " ".join(str(error).rpartition(": ")[2].split()).rstrip(".")


def _promised(path: Path, form: Form, frames: int) -> int | None:
    """The frames that the header promises, of which libsndfile hides those that are not there."""
    if form.container in ("WAV", "WAVEX", "RF64", "AIFF"):
        share = share_held(path)
        # Of a damaged file, nothing at all may be there: then the count is beside the point.
        return math.ceil(frames / share) if 0 < share < 1 else frames
    return frames if 0 <= frames < UNKNOWN_FRAMES else None


def _require_file(path: Path) -> None:
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder: name one audio file")
    if not os.path.exists(path):
        raise InputError(f"{path}: there is no such file")
    if not os.path.isfile(path):
        raise InputError(
            f"{path} is a pipe or a device: use cat {path} | signal-diffusion denoise -"
        )
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")


@contextmanager
def _sound_file(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        # Opened twice, since libsndfile's own words for what the system refuses are poor.
        path.open("rb").close()
        file = _Stream(native(path))
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no audio file or is damaged ({reason(error)})") from error
    with file:
        yield file
