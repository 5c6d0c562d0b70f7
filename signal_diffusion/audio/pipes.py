"""Recordings in pipes: WAV or raw PCM that can't be sought in, read as it comes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from signal_diffusion.audio.forms import Form, quantised, require_finite
from signal_diffusion.audio.wav_header import (
    ENCODINGS,
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
        self._frame = frame_bytes(self.form)
        self.frames = None if size is None else size // self._frame

    def blocks(self) -> Iterator[Array]:
        """Array (C, n) as they arrive, in one pass; n is 2^16 at most.

        Raises:
            InputError: the stream is cut short, or holds no samples, or NaN or infinite ones.
        """
        count = 0
        for frames in self._whole_frames():
            samples = self.decoded(frames)
            require_finite(samples.T, "standard input", count, self.form.sample_rate)
            count += samples.shape[1]
            yield samples
        if count == 0:
            raise InputError("standard input holds no samples: there is nothing to process")
        if self.frames is not None:
            _drain(self._file)

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

    def decoded(self, frames: bytes) -> Array:
        """Samples (C, n) of the bytes of whole frames."""
        samples, _ = soundfile.read(
            io.BytesIO(frames),
            dtype=self.form.dtype,
            always_2d=True,
            samplerate=self.form.sample_rate,
            channels=self.form.channels,
            format="RAW",
            subtype=self.form.subtype,
            endian="LITTLE",
        )
        return np.ascontiguousarray(samples.T)


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


def unfinished_frames(path: Path, size: int) -> Iterator[Array]:
    """Frames (n, C), n <= size, of a WAV whose header doesn't give their count, to its end."""
    with path.open("rb") as file:
        stream = PipeReader(file)
        each = frame_bytes(stream.form)
        while len(content := file.read(size * each)) >= each:
            yield stream.decoded(content[: len(content) // each * each]).T


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = b""
    while len(content) < size:
        arrived = _arrived(file, size - len(content))
        if not arrived:
            raise InputError(
                "standard input is empty or cut short: it ends before the first sample"
            )
        content += arrived
    return content


def _drain(file: BinaryIO) -> None:
    while _arrived(file, BLOCK_BYTES):
        pass
