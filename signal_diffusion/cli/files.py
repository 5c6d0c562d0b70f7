"""`signal-diffusion denoise` of files into files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import typer

from signal_diffusion.cli.asked import How, Where
from signal_diffusion.cli.bars import bars
from signal_diffusion.cli.checks import remaining, remove_leftovers, report_path, require_ready
from signal_diffusion.cli.lines import (
    done_line,
    failure_line,
    file_lines,
    left_out_lines,
    model_line,
    say,
    summary_lines,
)
from signal_diffusion.cli.models import loaded
from signal_diffusion.cli.rehearsal import rehearse
from signal_diffusion.cli.reports import ReportFile
from signal_diffusion.recordings.tables import is_table
from signal_diffusion.tasks.headers import Header, header
from signal_diffusion.tasks.plans import Job, plan, single

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.tasks.files import FileReport
    from signal_diffusion.tasks.folders import Outcome, Progress, Work
    from signal_diffusion.tasks.settings import Settings


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
    headers = [header(job, mix=where.sound.mix, columns=where.columns) for job in jobs]
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
    from signal_diffusion.tasks.folders import run_jobs

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
    from signal_diffusion.tasks import files, tables

    def work(job: Job, progress: Progress) -> FileReport:
        if is_table(job.source):
            return tables.denoise_table(
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
        return files.denoise_file(
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
