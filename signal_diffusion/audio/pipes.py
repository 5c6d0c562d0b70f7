"""Recordings in pipes: WAV or raw PCM that can't be sought in, read as it comes."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from signal_diffusion.audio.chunks import SOUNDS, several_sounds
from signal_diffusion.audio.forms import Form, quantised, require_finite
from signal_diffusion.audio.wav_header import (
    ENCODINGS,
    PIECE,
    data_bytes,
    frame_bytes,
    header,
    read_header,
    require_sane,
)
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError

#: libsndfile's names of the sample formats of raw PCM, by ffmpeg's.
RAW_FORMATS = {
    "u8": "PCM_U8",
    "s16le": "PCM_16",
    "s24le": "PCM_24",
    "s32le": "PCM_32",
    "f32le": "FLOAT",
    "f64le": "DOUBLE",
    "mulaw": "ULAW",
    "alaw": "ALAW",
}
BLOCK = 1 << 16
BLOCK_BYTES = 1 << 20


class Short(InputError):
    """A stream that ends too early."""


class PipeReader:
    """A recording that arrives through a pipe, WAV or raw PCM, little endian.

    Args:
        file: binary stream, which need not be seekable.
        form: of raw PCM; None for a WAV, whose header tells.

    Attributes:
        form: how the samples are stored.
        frames: as a WAV's header promises; None where it does not.

    Raises:
        InputError: it is no such stream, is cut short, or its rate or channels can't be meant.

    >>> import io
    >>> reader = PipeReader(io.BytesIO(bytes(10)), Form(8000, 1, "RAW", "PCM_16"))
    >>> [block.shape for block in reader.blocks()]
    [(1, 5)]
    """

    def __init__(self, file: BinaryIO, form: Form | None = None) -> None:
        self._file = file
        self.form, size = read_header(partial(_exactly, file)) if form is None else (form, None)
        require_sane(self.form)
        self._size, self._frame = size, frame_bytes(self.form)
        self.frames = None if size is None else size // self._frame

    def blocks(self) -> Iterator[Array]:
        """Array (C, n) as they arrive, in one pass; n is 2^16 at most.

        Raises:
            InputError: the stream is cut short, or holds no samples, or NaN or infinite ones.
        """
        count = 0
        parts = (decoded(frames, self.form) for frames in self._whole_frames())
        for samples in parts:
            # What is still being recorded has no end up to which they could be counted.
            later = () if self.frames is None else parts
            rate = self.form.sample_rate
            require_finite(samples, "standard input", count, rate, later=later)
            count += len(samples)
            yield np.ascontiguousarray(samples.T)
        if count == 0:
            raise InputError("standard input holds no samples: there is nothing to process")
        if self._size is not None:
            self._require_last(self._size % 2)

    def _require_last(self, padding: int) -> None:
        """Read what follows the samples to its end, and refuse a stream with further samples."""
        names = set()
        with suppress(Short):
            _exactly(self._file, padding)
            while True:
                name, size = struct.unpack("<4sI", _exactly(self._file, 8))
                names.add(name)
                for start in range(0, size + size % 2, PIECE):
                    _exactly(self._file, min(size + size % 2 - start, PIECE))
        if names & SOUNDS:
            raise several_sounds("standard input")

    def _whole_frames(self) -> Iterator[bytes]:
        rest, read = b"", 0
        while arrived := _arrived(self._file, self._wanted(read)):
            read += len(arrived)
            arrived = rest + arrived
            whole = len(arrived) // self._frame * self._frame
            rest = arrived[whole:]
            if whole:
                yield arrived[:whole]
        self._require_complete(read, len(rest))

    def _wanted(self, read: int) -> int:
        """Bytes to ask for, where some have been read."""
        size = min(BLOCK * self._frame, BLOCK_BYTES)
        return size if self.frames is None else min(size, self.frames * self._frame - read)

    def _require_complete(self, read: int, rest: int) -> None:
        if self.frames is not None and read < self.frames * self._frame:
            raise InputError(
                f"standard input is cut short: its header promises {self.frames} frames, it holds "
                f"{read // self._frame}"
            )
        if self.frames is None and rest:
            raise InputError(
                f"standard input is cut short, or of another format: it ends {rest} bytes into a "
                f"frame of {self._frame}"
            )


def decoded(frames: bytes, form: Form) -> Array:
    """Samples (n, C) of the bytes of whole frames."""
    samples, _ = soundfile.read(
        io.BytesIO(frames),
        dtype=form.dtype,
        always_2d=True,
        samplerate=form.sample_rate,
        channels=form.channels,
        format="RAW",
        subtype=form.subtype,
        endian="BIG" if form.container == "AIFF" else "LITTLE",
    )
    return np.asarray(samples)


class PipeWriter:
    """A recording that leaves through a pipe, each block at once.

    Integer formats are rounded and clipped to [-1, 1].

    Args:
        file: binary stream, which need not be seekable.
        form: of the recording. The container "RAW" means no header, any other one WAV; a sample
            format that WAV lacks becomes 16-bit.
        frames: that will be written, for the header; None where that is not known.

    Raises:
        BrokenPipeError: the reader at the other end went away.
        InputError: anything else keeps it from being written.

    >>> import io, numpy as np
    >>> file = io.BytesIO()
    >>> PipeWriter(file, Form(8000, 1, "RAW", "PCM_16")).write(np.full((1, 3), 0.5))
    >>> file.getvalue().hex()
    '004000400040'
    """

    def __init__(self, file: BinaryIO, form: Form, frames: int | None = None) -> None:
        stored = form if form.subtype in ENCODINGS else replace(form, subtype="PCM_16")
        require_sane(stored)
        self._file, self._form = file, stored
        self._padding = b""
        if form.container != "RAW":
            self._padding = bytes((data_bytes(stored, frames) or 0) % 2)
            self._send(header(stored, frames))

    def write(self, samples: Array) -> None:
        """Send samples (C, n)."""
        stored = io.BytesIO()
        soundfile.write(
            stored,
            quantised(samples.T, self._form.subtype),
            self._form.sample_rate,
            format="RAW",
            subtype=self._form.subtype,
            endian="LITTLE",
        )
        self._send(stored.getvalue())

    def close(self) -> None:
        """Send what the container still needs; the stream stays open."""
        self._send(self._padding)

    def _send(self, content: bytes) -> None:
        left = memoryview(content)
        try:
            while left:
                # An unbuffered stream may take less than it is given.
                left = left[self._file.write(left) or 0 :]
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"standard output can't be written: {reason}") from error


def _arrived(file: BinaryIO, size: int) -> bytes:
    """What has come, `size` bytes at most: nothing only at the end."""
    try:
        return bytes(getattr(file, "read1", file.read)(size)) if size else b""
    except OSError as error:
        raise InputError(f"standard input can't be read: {error.strerror or error}") from error


def unfinished(path: Path) -> Form | None:
    """The form of a WAV or RF64 whose header doesn't give the count of its samples, else None."""
    with path.open("rb") as file, suppress(InputError):
        form, size = read_header(partial(_exactly, file))
        return form if size is None and file.tell() < path.stat().st_size else None
    return None


def raw_frames(path: Path, form: Form, start: int, size: int) -> Iterator[Array]:
    """Frames (n, C), n <= size, of a file from some byte to its end; the last may be cut off."""
    each = frame_bytes(form)
    with path.open("rb") as file:
        file.seek(start)
        while len(content := file.read(size * each)) >= each:
            yield decoded(content[: len(content) // each * each], form)


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = b""
    while len(content) < size:
        arrived = _arrived(file, size - len(content))
        if not arrived:
            raise Short("standard input is empty or cut short: it ends before the first sample")
        content += arrived
    return content
