"""`signal-diffusion denoise` of files into files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from signal_diffusion import audio
from signal_diffusion.audio.forms import Form
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
from signal_diffusion.cli.request import How, Where, loaded
from signal_diffusion.cli.terminal import bars
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import require_writable
from signal_diffusion.files.journal import read_rows
from signal_diffusion.tables import is_table
from signal_diffusion.tasks.jobs import (
    Header,
    Job,
    header_of,
    is_folder,
    plan,
    require_distinct,
    single,
)
from signal_diffusion.tasks.workers import ReportFile

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.samplers import Progress
    from signal_diffusion.streaming.settings import Settings
    from signal_diffusion.tasks.denoise_files import FileReport
    from signal_diffusion.tasks.workers import Outcome, Work


def denoise_files(where: Where, how: How) -> None:
    """Do what the command line asks for, or only tell it if that is asked.

    Raises:
        InputError: it can't be done.
        typer.Exit: with 1, some of many files failed.
    """
    keep_noise, plot, uncertainty = where.sides
    left_out: list[str] = []
    jobs = plan(
        where.inputs, where.output, keep_noise=keep_noise, plot=plot, uncertainty=uncertainty,
        left_out=left_out.append,
    )  # fmt: skip
    if not where.dry_run:
        remove_leftovers(jobs, where)
    headers = [header_of(job, mix=where.sound.mix, columns=where.columns) for job in jobs]
    require_ready(headers, where)
    pending = remaining(headers, where)
    if where.dry_run:
        rehearse(headers, pending, how, left_out=left_out)
    elif pending:
        _denoise(pending, where, how, skipped=len(headers) - len(pending), left_out=left_out)
    elif not where.quiet:
        for line in (*left_out_lines(left_out), done_line(headers)):
            say(line)


def _denoise(
    pending: Sequence[Header], where: Where, how: How, *, skipped: int, left_out: Sequence[str]
) -> None:
    denoiser, settings = loaded(how, str(pending[0].job.source), table=pending[0].table)
    outcome = _outcome(pending, where, _work(denoiser, settings, where))
    if single(where.inputs):
        for _, error in outcome.failed:
            raise error
        told = file_lines(outcome.reports[0])
    else:
        report = report_path(where)
        told = summary_lines(outcome, skipped=skipped, report=report, left_out=left_out)
    if not where.quiet:
        rates = [header.form.sample_rate for header in pending if header.form is not None]
        times, highest = settings.times, max(rates, default=0)
        for line in (model_line(how, denoiser, times=times, highest_rate=highest), *told):
            say(line)
    for job, error in outcome.failed:
        say(failure_line(job, error), err=True)
    if outcome.failed:
        raise typer.Exit(1)


def _outcome(pending: Sequence[Header], where: Where, work: Work) -> Outcome:
    """Do the jobs, while bars and the report tell of them."""
    from signal_diffusion.tasks.workers import run_jobs

    jobs, path = [header.job for header in pending], report_path(where)
    with ExitStack() as stack:
        report = None
        if path is not None:
            report = stack.enter_context(ReportFile(path, [job.source for job in jobs]))
        shown = stack.enter_context(bars(pending, quiet=where.quiet))
        stack.enter_context(_cores_shared(where.jobs))

        def finished(job: Job, result: FileReport | Exception) -> None:
            shown.finish(job)
            if report is not None:
                report.add(job, result)

        return run_jobs(jobs, work, workers=where.jobs, progress=shown.tell, finished=finished)


def _work(denoiser: NetworkDenoiser, settings: Settings, where: Where) -> Work:
    from signal_diffusion.tasks import denoise_files

    def work(job: Job, progress: Progress) -> FileReport:
        if is_table(job.source):
            return denoise_files.denoise_table(
                denoiser,
                job.source,
                job.target,
                columns=where.columns,
                settings=settings,
                force=where.force or where.resume,
                keep_noise=job.keep_noise,
                plot=job.plot,
                window=where.window,
                uncertainty=job.uncertainty,
                progress=progress,
            )
        return denoise_files.denoise_file(
            denoiser,
            job.source,
            job.target,
            settings=settings,
            mix=where.sound.mix,
            # Where a run was killed, further outputs may be there without the target.
            force=where.force or where.resume,
            keep_noise=job.keep_noise,
            plot=job.plot,
            uncertainty=job.uncertainty,
            progress=progress,
        )

    return work


@contextmanager
def _cores_shared(workers: int) -> Iterator[None]:
    """Each of some threads computes with its share of the cores."""
    import torch

    cores = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // workers))
    try:
        yield
    finally:
        torch.set_num_threads(cores)


REPORT = "report.jsonl"


def require_ready(headers: Sequence[Header], where: Where) -> None:
    """Raise an `InputError` if the files can't be read, or written where it is asked for.

    Of many files, those that can't be read are left to fail on their own.
    """
    require_distinct([header.written for header in headers])
    _require_tables(headers, where)
    _require_new(headers, where)
    _require_report(headers, where)
    if single(where.inputs):
        _require_one(headers[0], where)
    else:
        _require_folders(where)


def remaining(headers: Sequence[Header], where: Where) -> list[Header]:
    """What is left to do: all, or, where a run goes on, what lacks an output."""
    if not where.resume:
        return list(headers)
    return [header for header in headers if not all(map(os.path.exists, header.written.outputs))]


def report_path(where: Where) -> Path | None:
    """The report's file; None where there is none."""
    if where.report is not None or single(where.inputs):
        return where.report
    return Path(where.output) / REPORT


def remove_leftovers(jobs: Sequence[Job], where: Where) -> None:
    """Remove what killed runs left in the folders of the outputs."""
    report = report_path(where)
    folders = {path.parent for job in jobs for path in job.outputs}
    folders |= {report.parent} if report is not None else set()
    for folder in sorted(folder for folder in folders if os.path.isdir(folder)):
        audio.remove_leftovers(folder)


def _require_tables(headers: Sequence[Header], where: Where) -> None:
    sound = [header.job.source for header in headers if not header.table]
    if where.window is not None and sound:
        raise InputError(
            f"window is for pictures of tables, but {sound[0]} is sound, which is drawn whole: "
            "leave it"
        )


def _require_new(headers: Sequence[Header], where: Where) -> None:
    if where.force or where.resume:
        return
    paths = [path for header in headers for path in header.written.outputs]
    there = [path for path in paths if os.path.lexists(path)]
    if len(paths) == 1 and there:
        raise InputError(f"{there[0]} exists: pass --force to replace it")
    if there:
        raise InputError(
            f"{len(there)} of {len(paths)} outputs exist, the first is {there[0]}: "
            "pass --resume to keep them or --force to replace them"
        )


def _require_report(headers: Sequence[Header], where: Where) -> None:
    path = report_path(where)
    if path is None:
        return
    taken = [p for h in headers for p in (h.job.source, *h.written.outputs)]
    if path.resolve() in {other.resolve() for other in taken}:
        raise InputError(f"the report {path} is an input or an output, too: give another name")
    read_rows(path)


def _require_one(header: Header, where: Where) -> None:
    if header.error is not None:
        raise InputError(header.error)
    _require_suffix(header.job.plot, ".png")
    _require_suffix(header.job.uncertainty, ".npz")
    places = [place for place in (where.output, *where.sides) if place is not None]
    for place, path in zip(places, header.written.outputs, strict=True):
        if not os.path.isdir(path.parent) and not is_folder(place, one=True):
            raise InputError(f"{path} can't be written: there is no folder {path.parent}")
    if not where.dry_run and os.path.isdir(header.written.target.parent):
        _require_writable(header, where.force or where.resume)


def _require_folders(where: Where) -> None:
    for place in (where.output, *where.sides):
        if place is not None and os.path.exists(place) and not os.path.isdir(place):
            raise InputError(f"{place} is a file: many recordings need a folder")


def _require_suffix(path: Path | None, suffix: str) -> None:
    if path is not None and path.suffix.lower() != suffix:
        raise InputError(f"{path} can't be written: give a name that ends in {suffix}")


def _require_writable(header: Header, force: bool) -> None:
    form = header.form
    if not isinstance(form, Form):
        require_writable(header.written.target, force=force)
        return
    nothing = np.zeros((form.channels, 0), np.float32)
    empty = audio.Recording(nothing, form.sample_rate, form.container, form.subtype)
    audio.check_output(header.written.target, empty, force=force)


if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.streaming.settings import Settings


#: Seconds of noise that are denoised to tell how long recordings will take.
TRIAL = 4.0


def rehearse(
    headers: Sequence[Header], pending: Sequence[Header], how: How, *, left_out: Sequence[str] = ()
) -> None:
    """Tell of each file what would be done, and how long it all would take.

    Args:
        headers: of all files.
        pending: those among them that would be denoised.
        how: what the command line asks for.
        left_out: suffixes of what can't be read at all.

    Raises:
        InputError: the model or a setting can't be used.
        typer.Exit: with 1, some files can't be read.
    """
    denoiser, settings = loaded(how, str(headers[0].job.source), table=headers[0].table)
    for header in headers:
        say(_line(header, skipped=header not in pending))
    sound = [header for header in pending if header.error is None]
    highest = max((header.form.sample_rate for header in sound if header.form), default=0)
    say(model_line(how, denoiser, times=settings.times, highest_rate=highest))
    for line in left_out_lines(left_out):
        say(line)
    say(_total(sound, _factor(denoiser, settings)))
    if len(sound) < len(pending):
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


def _factor(denoiser: NetworkDenoiser, settings: Settings) -> float | None:
    """Seconds of work per second of one channel, measured; None where noise can't be denoised."""
    import torch

    from signal_diffusion.tasks.denoise import denoise

    rate = denoiser.sample_rate or 16000
    noise = 0.1 * torch.randn(round(TRIAL * rate), generator=torch.Generator().manual_seed(0))
    taken = []
    try:
        # Twice, since what is loaded on first use would count.
        for _ in range(2):
            began = time.perf_counter()
            denoise(denoiser, noise, sample_rate=rate, noise_std=settings.noise_std)
            taken.append(time.perf_counter() - began)
    except InputError:
        return None
    return min(taken) / TRIAL * settings.times * settings.shots
