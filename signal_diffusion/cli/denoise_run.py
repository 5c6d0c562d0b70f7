"""`signal-diffusion denoise` of files into files, and from and into pipes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from signal_diffusion.audio.files import Reader, Writer, opened, writing
from signal_diffusion.audio.forms import Form, stored_form
from signal_diffusion.audio.pipes import PipeReader, PipeWriter
from signal_diffusion.cli.denoise_command import PIPE, Request
from signal_diffusion.cli.messages import (
    count,
    done_line,
    failure_line,
    file_lines,
    left_out_lines,
    model_line,
    say,
    span,
    summary_lines,
)
from signal_diffusion.cli.terminal import bars
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import remove_leftovers
from signal_diffusion.files.journal import read_rows
from signal_diffusion.tables import is_table
from signal_diffusion.tasks.inputs import single
from signal_diffusion.tasks.jobs import (
    Header,
    Job,
    header_of,
    is_folder,
    plan,
    require_distinct,
    require_folders,
    require_new,
    require_output,
)
from signal_diffusion.tasks.workers import report_file, row_of

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.samplers import Progress
    from signal_diffusion.tasks.denoise_files import FileReport
    from signal_diffusion.tasks.workers import Outcome, Work


def denoise_files(request: Request) -> None:
    """Denoise files, or only say what would be done.

    Raises:
        InputError: it can't be done.
        typer.Exit: with 1, some of many files failed.
    """
    keep_noise, plot, uncertainty = request.sides
    left_out: list[str] = []
    jobs = plan(
        request.inputs,
        request.target,
        keep_noise=keep_noise,
        plot=plot,
        uncertainty=uncertainty,
        left_out=left_out.append,
    )
    if not request.dry_run:
        folders = {path.parent for job in jobs for path in job.outputs}
        folders |= set() if request.report_path is None else {request.report_path.parent}
        # What killed runs left there.
        for folder in filter(os.path.isdir, folders):
            remove_leftovers(folder)
    headers = [header_of(job, mix=request.mix, columns=request.table) for job in jobs]
    _require_ready(headers, request)
    pending = [
        header
        for header in headers
        if not (request.resume and all(map(os.path.exists, header.written.outputs)))
    ]
    if request.dry_run:
        _rehearse(headers, pending, request, left_out=left_out)
    elif pending:
        _denoise(pending, request, skipped=len(headers) - len(pending), left_out=left_out)
    elif not request.quiet:
        for line in (*left_out_lines(left_out), done_line(headers)):
            say(line)


def _denoise(
    pending: Sequence[Header], request: Request, *, skipped: int, left_out: Sequence[str]
) -> None:
    denoiser = request.load(str(pending[0].job.source), table=pending[0].table)
    outcome = _outcome(pending, request, _work(denoiser, request))
    if single(request.inputs):
        for _, error in outcome.failed:
            raise error
        lines = file_lines(outcome.reports[0])
    else:
        report = request.report_path
        lines = summary_lines(outcome, skipped=skipped, report=report, left_out=left_out)
    if not request.quiet:
        for line in (_model_line(request, denoiser, pending), *lines):
            say(line)
    for job, error in outcome.failed:
        say(failure_line(job, error), err=True)
    if outcome.failed:
        raise typer.Exit(1)


def _model_line(request: Request, denoiser: NetworkDenoiser, headers: Sequence[Header]) -> str:
    rates = (header.form.sample_rate for header in headers if header.form is not None)
    return model_line(request.model, denoiser, request.settings, highest_rate=max(rates, default=0))


def _outcome(pending: Sequence[Header], request: Request, work: Work) -> Outcome:
    """Do the jobs, while bars and the report show them."""
    from signal_diffusion.streaming.background import shared_threads
    from signal_diffusion.tasks.workers import run_jobs

    jobs, path = [header.job for header in pending], request.report_path
    with ExitStack() as stack:
        report = None
        if path is not None:
            report = stack.enter_context(report_file(path, [job.source for job in jobs]))
        shown = stack.enter_context(bars(pending, quiet=request.quiet))
        stack.enter_context(shared_threads(request.jobs))

        def finished(job: Job, result: FileReport | Exception) -> None:
            shown.finish(job)
            if report is not None:
                report.add([row_of(job, result)])

        return run_jobs(jobs, work, workers=request.jobs, progress=shown.update, finished=finished)


def _work(denoiser: NetworkDenoiser, request: Request) -> Work:
    from signal_diffusion.tasks.denoise_files import denoise_file, denoise_table

    # The tables of a folder mostly have the same columns.
    announced: set[str] = set()

    def announce(path: Path, line: str) -> None:
        if not (request.quiet or line in announced):
            announced.add(line)
            say(f"{path}: {line}", err=True)

    def work(job: Job, progress: Progress) -> FileReport:
        shared: dict[str, Any] = {
            "settings": request.settings,
            "force": request.replaces,
            "keep_noise": job.keep_noise,
            "plot": job.plot,
            "uncertainty": job.uncertainty,
            "progress": progress,
        }
        if is_table(job.source):
            shared |= {"columns": request.table, "window": request.shown}
            shared["announce"] = partial(announce, job.source)
            return denoise_table(denoiser, job.source, job.target, **shared)
        return denoise_file(denoiser, job.source, job.target, mix=request.mix, **shared)

    return work


def _require_ready(headers: Sequence[Header], request: Request) -> None:
    """Raise an `InputError` if the files can't be read, or written where it is asked for.

    Of many files, those that can't be read are left to fail on their own.
    """
    require_distinct([header.written for header in headers])
    sound = [header.job.source for header in headers if not header.table]
    if request.window is not None and sound:
        raise InputError(
            f"window is for pictures of tables, but {sound[0]} is sound, which is drawn whole: "
            "leave it"
        )
    if not request.replaces:
        require_new([path for header in headers for path in header.written.outputs])
    _require_report(headers, request)
    places = [place for place in (request.target, *request.sides) if place is not None]
    if single(request.inputs):
        require_output(headers[0], places, force=request.replaces, dry_run=request.dry_run)
    else:
        require_folders(places)


def _require_report(headers: Sequence[Header], request: Request) -> None:
    path = request.report_path
    if path is None:
        return
    taken = [p for h in headers for p in (h.job.source, *h.written.outputs)]
    if path.resolve() in {other.resolve() for other in taken}:
        raise InputError(f"the report {path} is an input or an output, too: give another name")
    read_rows(path)


def _rehearse(
    headers: Sequence[Header],
    pending: Sequence[Header],
    request: Request,
    *,
    left_out: Sequence[str],
) -> None:
    """Say of each file what would be done, and how long it all would take.

    Args:
        headers: of all files.
        pending: those among them that would be denoised.
        left_out: suffixes of what can't be read at all.

    Raises:
        InputError: the model or a setting can't be used.
        typer.Exit: with 1, some files can't be read.
    """
    from signal_diffusion.tasks.denoise import work_per_second

    denoiser = request.load(str(headers[0].job.source), table=headers[0].table)
    for header in headers:
        say(_line(header, skipped=header not in pending))
    readable = [header for header in pending if header.error is None]
    say(_model_line(request, denoiser, readable))
    for line in left_out_lines(left_out):
        say(line)
    say(_total(readable, work_per_second(denoiser, request.settings)))
    if len(readable) < len(pending):
        raise typer.Exit(1)


def _line(header: Header, *, skipped: bool) -> str:
    job, form = header.written, header.form
    if form is None:
        return f"{job.source}: error: {header.error}"
    length = f"{header.seconds:.2f} s" if header.frames is not None else "length not known"
    line = f"{job.source} -> {job.target}: {form.sample_rate:g} Hz, "
    line += f"{count(form.channels, 'channel')}, {length}"
    if skipped:
        return f"{line}; exists, skipped"
    return line if header.note is None else f"{line}; {header.note}"


def _total(sound: Sequence[Header], factor: float | None) -> str:
    seconds = sum(header.seconds for header in sound)
    line = f"{count(len(sound), 'file')}, {span(seconds)} of audio"
    if factor is not None:
        samples = sum(header.seconds * header.form.channels for header in sound if header.form)
        line += f", about {span(factor * samples)} of work"
    return f"{line}; nothing was written"


def denoise_piped(request: Request) -> None:
    """Denoise standard input, or a file to standard output.

    Raises:
        InputError: it can't be done.
    """
    source, target = request.inputs[0], request.target
    _require_no_terminal(source, target)
    if target != PIPE:
        _require_target(target, force=request.force)
    denoiser = request.load("standard input" if source == PIPE else source)

    from signal_diffusion.tasks.denoise_files import denoise_pipe, notes

    settings, mix = request.settings, request.mix
    with _reader(source, request.raw_form()) as reader:
        form = replace(reader.form, channels=1) if mix else reader.form
        path, form, note = _stored(target, form, reader.frames)
        with _writer(path, form, reader.frames, force=request.force) as writer:
            done = denoise_pipe(denoiser, reader, writer, settings=settings, mix=mix)
    if request.quiet:
        return
    report = replace(done, path=source, output=str(path or PIPE), note=notes(note, done.note))
    model = model_line(request.model, denoiser, settings, highest_rate=form.sample_rate)
    for line in (model, *file_lines(report)):
        # Standard output may be where the recording goes.
        say(line, err=target == PIPE)


@contextmanager
def _reader(source: str, raw: Form | None) -> Iterator[PipeReader | Reader]:
    if source == PIPE:
        # Unbuffered, since a thread that waits in the buffer would keep the program from ending.
        yield PipeReader(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer), raw)
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


def _require_target(target: str, *, force: bool) -> None:
    if is_folder(target, one=True):
        raise InputError(f"{target} is a folder: name the file to write")
    if os.path.lexists(target) and not force:
        raise InputError(f"{target} exists: pass --force to replace it, or -o for another name")
    if os.path.isdir(Path(target).parent):
        remove_leftovers(Path(target).parent)


def _require_no_terminal(source: str, target: str) -> None:
    ends = (
        (source, sys.stdin, "input", "pipe a recording in, or name a file"),
        (target, sys.stdout, "output", "pipe it on, or name a file with -o"),
    )
    for place, stream, name, mend in ends:
        if place == PIPE and stream is None:
            raise InputError(f"standard {name} is closed: {mend}")
        if place == PIPE and stream.isatty():
            raise InputError(f"standard {name} is a terminal: {mend}")
