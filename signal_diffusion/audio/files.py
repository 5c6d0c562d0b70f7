"""Recordings in files: read in blocks, so that memory stays bounded, or whole."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from signal_diffusion.audio.chunks import require_one_sound, share_held, sound_start
from signal_diffusion.audio.forms import (
    UNREADABLE,
    Form,
    compression,
    native,
    nearest_form,
    quantised,
    require_finite,
)
from signal_diffusion.audio.pipes import raw_frames, unfinished
from signal_diffusion.audio.tags import Tags, read_tags, set_strings, write_tags
from signal_diffusion.audio.wav_header import ENCODINGS
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import beside, failures, publish, require_writable

BLOCK = 1 << 16
#: Of all channels, read at once: a damaged header may promise a thousand channels.
BLOCK_SAMPLES = 1 << 21
UNKNOWN_FRAMES = 1 << 62
#: Frames that libsndfile gets at once: its Vorbis encoder keeps them on the stack.
WRITTEN_BLOCK = 1 << 14


@dataclass(frozen=True)
class Recording:
    """Array of a recording and the form that they were stored in.

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
        note: what was wrong with the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.note, self._start = path, None, None
        require_one_sound(path)
        try:
            with _sound_file(path) as file:
                self.form = Form.of(file)
                self.frames = _promised(path, self.form, file.frames)
        except InputError:
            form = unfinished(path)
            if form is None:
                raise
            self.form, self.frames = form, 0
        if self.frames == 0 and self.form.subtype in ENCODINGS:
            self._start = sound_start(path)
        if self._start is not None:
            self.frames = None
            self.note = "its header was never finished: the file was read to its end"

    def blocks(self, size: int = BLOCK) -> Iterator[Array]:
        """Array (C, n), n <= size, from the beginning on each call, in `form.dtype`.

        Raises:
            InputError: the file is cut short or damaged, or holds no samples, or NaN or infinite
                ones.
        """
        count = 0
        rest = self._frames(size, self.form.dtype)
        for frames in rest:
            require_finite(frames, str(self.path), count, self.form.sample_rate, later=rest)
            count += len(frames)
            yield np.ascontiguousarray(frames.T)
        if count < (self.frames or 0):
            raise InputError(
                f"{self.path} is cut short: its header promises {self.frames} frames, it holds "
                f"{count}"
            )
        if count == 0:
            raise InputError(f"{self.path} holds no samples: there is nothing to process")

    def _frames(self, size: int, dtype: str) -> Iterator[Array]:
        size = max(1, min(size, BLOCK_SAMPLES // self.form.channels))
        if self._start is not None:
            yield from raw_frames(self.path, self.form, self._start, size)
            return
        with _sound_file(self.path) as file:
            try:
                while len(frames := file.read(size, dtype=dtype, always_2d=True)):
                    yield frames
            except soundfile.SoundFileError as error:
                why = reason(error)
                raise InputError(f"{self.path} is cut short or damaged ({why})") from error


@contextmanager
def opened(path: str | Path) -> Iterator[Reader]:
    """Open an audio file of any format that libsndfile knows, to be read in blocks.

    Raises:
        InputError: there is no such file, or it is no audio.
    """
    path = Path(path)
    _require_file(path)
    yield Reader(path)


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
        _require_readable(path)
        raise InputError(f"{path} is no audio file or is damaged ({reason(error)})") from error
    with file:
        yield file


def _require_readable(path: Path) -> None:
    """Raise an InputError for a format that only another program decodes, which names the way."""
    with path.open("rb") as file:
        start = file.read(12)
    form = path.suffix.lower().removeprefix(".") if path.suffix.lower() in UNREADABLE else ""
    form = form or ("mp4" if start[4:8] == b"ftyp" else "")
    if not form:
        return
    raise InputError(
        f"{path}: {form.upper()} can't be read here, but by way of a pipe: "
        f"ffmpeg -i {path} -f wav - | signal-diffusion denoise - -o OUT.wav"
    )


class Writer:
    """A recording that is being written; `writing` makes one.

    Attributes:
        path: where it will appear.
        form: how it is stored.
        frames: how many have been written.
    """

    def __init__(self, path: Path, form: Form, file: soundfile.SoundFile) -> None:
        self.path, self.form, self.frames = path, form, 0
        self._file = file

    def write(self, samples: Array) -> None:
        """Append samples (C, n); integer formats are rounded and clipped to [-1, 1].

        Raises:
            InputError: the disk is full, or the container can't hold more.
        """
        frames = np.asarray(samples).T
        for start in range(0, len(frames), WRITTEN_BLOCK):
            with failures(self.path):
                block = frames[start : start + WRITTEN_BLOCK]
                self._file.write(quantised(block, self.form.subtype))
        self.frames += len(frames)


@contextmanager
def writing(
    path: str | Path,
    form: Form,
    *,
    like: Path | None = None,
    tags: Tags | None = None,
    force: bool = False,
) -> Iterator[Writer]:
    """Write a recording block by block; the file appears once the block ends without an error.

    Args:
        path: output file.
        form: how to store it, see `stored_form`.
        like: recording whose tags, start time and bit rate are kept where the container can.
        tags: what the recording says of itself, where it is not like another.
        force: replace a file that exists.

    Raises:
        InputError: the file exists, or the folder or disk can't take it, or the container the form.
    """
    path = Path(path)
    require_writable(path, force=force)
    tags = tags if like is None else _tags_of(like)
    with beside(path) as partial:
        with _created(path, partial, form, like) as file:
            if tags is not None:
                set_strings(tags, file)
            writer = Writer(path, form, file)
            yield writer
        if tags is not None:
            # Tags that can't be written are no reason to lose the recording.
            with suppress(Exception):
                write_tags(tags, like, partial, form)
        # What arrived may be less than what was written, as on a full disk.
        with failures(path):
            found = soundfile.info(native(partial)).frames if writer.frames else 0
        if found != writer.frames:
            raise InputError(f"{path} can't be written: {found} of {writer.frames} frames arrived")
        publish(partial, path, force=force)


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
    with writing(path, nearest_form(Path(path), recording.form), force=force) as writer:
        writer.write(recording.samples)


def check_output(path: str | Path, form: Form, *, force: bool = False) -> None:
    """Raise the errors of `write` now, by writing an empty file of the form beside the path."""
    path = Path(path)
    form = nearest_form(path, form)
    require_writable(path, force=force)
    with beside(path) as partial, _created(path, partial, form, None):
        pass


@contextmanager
def _created(
    path: Path, partial: Path, form: Form, like: Path | None
) -> Iterator[soundfile.SoundFile]:
    level, mode = compression(form, like)
    with failures(path):
        file = soundfile.SoundFile(
            native(partial),
            "w",
            form.sample_rate,
            form.channels,
            form.subtype,
            format=form.container,
            compression_level=level,
            bitrate_mode=mode,
        )
    try:
        yield file
    except BaseException:
        with suppress(soundfile.SoundFileError):
            file.close()
        raise
    with failures(path):
        file.close()


def _tags_of(like: Path) -> Tags | None:
    # Tags are read by another library, which may trip over what libsndfile accepts.
    with suppress(Exception):
        return read_tags(like, Form.of(soundfile.info(native(like))))
    return None
