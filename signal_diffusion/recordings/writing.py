"""Recordings into files: written in blocks, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from signal_diffusion.errors import InputError
from signal_diffusion.recordings.bitrates import compression
from signal_diffusion.recordings.forms import Form, nearest_form, quantised
from signal_diffusion.recordings.names import native
from signal_diffusion.recordings.partials import beside, failures, require_writable
from signal_diffusion.recordings.reading import Recording
from signal_diffusion.recordings.tags import Tags, read_tags, set_strings, write_tags

Samples = NDArray[Any]

#: Frames that libsndfile gets at once: its Vorbis encoder keeps them on the stack.
BLOCK = 1 << 14


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

    def write(self, samples: Samples) -> None:
        """Append samples (C, n); integer formats are rounded and clipped to [-1, 1].

        Raises:
            InputError: the disk is full, or the container can't hold more.
        """
        frames = np.asarray(samples).T
        for start in range(0, len(frames), BLOCK):
            with failures(self.path):
                self._file.write(quantised(frames[start : start + BLOCK], self.form.subtype))
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
        _require_whole(path, partial, writer.frames)
        with failures(path):
            os.replace(partial, path)


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


def check_output(path: str | Path, recording: Recording, *, force: bool = False) -> None:
    """Raise `write`'s errors now, by writing an empty file of the same form beside the path."""
    path = Path(path)
    form = nearest_form(path, recording.form)
    require_writable(path, force=force)
    with beside(path) as partial, _created(path, partial, form, None):
        pass


@contextmanager
def _created(
    path: Path, partial: Path, form: Form, like: Path | None
) -> Iterator[soundfile.SoundFile]:
    with failures(path):
        file = _sound_file(partial, form, like)
    try:
        yield file
    except BaseException:
        with suppress(soundfile.SoundFileError):
            file.close()
        raise
    with failures(path):
        file.close()


def _sound_file(path: Path, form: Form, like: Path | None) -> soundfile.SoundFile:
    level, mode = _compression(form, like)
    return soundfile.SoundFile(
        native(path),
        "w",
        form.sample_rate,
        form.channels,
        form.subtype,
        format=form.container,
        compression_level=level,
        bitrate_mode=mode,
    )


def _compression(form: Form, like: Path | None) -> tuple[float | None, str | None]:
    # Whatever is odd about the source's headers, its bit rate is only a wish.
    with suppress(Exception):
        return compression(form, like)
    return compression(form, None)


def _tags_of(like: Path) -> Tags | None:
    # Tags are read by another library, which may trip over what libsndfile accepts.
    with suppress(Exception):
        return read_tags(like, _form_of(like))
    return None


def _form_of(path: Path) -> Form:
    info = soundfile.info(native(path))
    return Form(info.samplerate, info.channels, info.format, info.subtype)


def _require_whole(path: Path, partial: Path, frames: int) -> None:
    """Raise an InputError if the file does not hold what was written, as on a full disk."""
    if frames == 0:
        return
    with failures(path):
        found = soundfile.info(native(partial)).frames
    if found != frames:
        raise InputError(f"{path} can't be written: {found} of {frames} frames arrived")
