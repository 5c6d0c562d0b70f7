"""`signal-diffusion denoise` from a pipe, into a pipe, or both."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from signal_diffusion.audio.files import Reader, Writer, opened, writing
from signal_diffusion.audio.forms import Form, stored_form
from signal_diffusion.audio.pipes import PipeReader, PipeWriter
from signal_diffusion.cli.messages import file_lines, model_line, say
from signal_diffusion.cli.request import PIPE, Request
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import remove_leftovers
from signal_diffusion.tasks.jobs import is_folder


def denoise_piped(request: Request) -> None:
    """Denoise standard input, or a file to standard output.

    Raises:
        InputError: it can't be done.
    """
    source, target = request.inputs[0], request.output
    _require_no_terminal(source, target)
    if target != PIPE:
        _require_new(target, force=request.force)
    denoiser = request.load("standard input" if source == PIPE else source)

    from signal_diffusion.tasks.denoise_files import denoise_pipe

    settings, mix = request.settings, request.sound.mix
    with _reader(source, request.sound.form()) as reader:
        form = replace(reader.form, channels=1) if mix else reader.form
        path, form, note = _stored(target, form, reader.frames)
        with _writer(path, form, reader.frames, force=request.force) as writer:
            done = denoise_pipe(denoiser, reader, writer, settings=settings, mix=mix)
    if request.quiet:
        return
    report = replace(done, path=source, output=str(path or PIPE), note=note)
    model = model_line(request.model, denoiser, settings, highest_rate=form.sample_rate)
    for line in (model, *file_lines(report)):
        # Standard output may be where the recording goes.
        say(line, err=target == PIPE)


@contextmanager
def _reader(source: str, raw: Form | None) -> Iterator[PipeReader | Reader]:
    if source == PIPE:
        yield PipeReader(sys.stdin.buffer, raw)
    else:
        with opened(source) as reader:
            yield reader


def _stored(target: str, form: Form, frames: int | None) -> tuple[Path | None, Form, str | None]:
    """Where and how the recording is written; standard output has no path."""
    if target == PIPE:
        return None, form, None
    container = "WAV" if form.container == "RAW" else form.container
    return stored_form(Path(target), replace(form, container=container), frames=frames)


@contextmanager
def _writer(
    path: Path | None, form: Form, frames: int | None, *, force: bool
) -> Iterator[PipeWriter | Writer]:
    if path is not None:
        with writing(path, form, force=force) as file:
            yield file
        return
    pipe = PipeWriter(sys.stdout.buffer, form, frames)
    yield pipe
    pipe.close()


def _require_new(target: str, *, force: bool) -> None:
    if is_folder(target, one=True):
        raise InputError(f"{target} is a folder: name the file to write")
    if os.path.lexists(target) and not force:
        raise InputError(f"{target} exists: pass --force to replace it, or -o for another name")
    if os.path.isdir(Path(target).parent):
        remove_leftovers(Path(target).parent)


def _require_no_terminal(source: str, target: str) -> None:
    if source == PIPE and sys.stdin is None:
        raise InputError("standard input is closed: pipe a recording in, or name a file")
    if target == PIPE and sys.stdout is None:
        raise InputError("standard output is closed: pipe it on, or name a file with -o")
    if source == PIPE and sys.stdin.isatty():
        raise InputError("standard input is a terminal: pipe a recording in, or name a file")
    if target == PIPE and sys.stdout.isatty():
        raise InputError("standard output is a terminal: pipe it on, or name a file with -o")
