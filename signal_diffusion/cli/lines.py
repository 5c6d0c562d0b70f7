"""What the command says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.cli.asked import How
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.tasks.files import FileReport
    from signal_diffusion.tasks.folders import Outcome
    from signal_diffusion.tasks.plans import Job

#: Notes that are told one by one; the rest is in the report.
MOST_NOTES = 10


def say(line: str, *, err: bool = False) -> None:
    """Write one line, whatever bytes a file's name in it holds."""
    typer.echo(line.encode("utf-8", "replace").decode(), err=err)


def failure_line(job: Job, error: Exception) -> str:
    """What went wrong with one of many files."""
    why = reason(error)
    return f"failed: {why}" if str(job.source) in why else f"failed: {job.source}: {why}"


def reason(error: Exception) -> str:
    """An error in one line, with its type where it is none that a user can cause.

    >>> reason(KeyError("x"))
    "KeyError: 'x'"
    """
    name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return name + one_line(error)


def one_line(error: BaseException) -> str:
    """An error's text in one line.

    >>> one_line(ValueError("the disk\\nis on fire"))
    'the disk is on fire'
    """
    return " ".join(str(error).split())[:500]


def count(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> count(1, "channel"), count(2, "channel")
    ('1 channel', '2 channels')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def span(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> span(0.5), span(90), span(36000)
    ('0.50 s', '1.5 min', '10.0 h')
    """
    if seconds < 60:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def model_line(how: How, denoiser: Denoiser, *, times: int, highest_rate: float) -> str:
    """Model, steps, and what is lost of recordings of up to the highest rate in Hz."""
    rate = denoiser.sample_rate
    line = f"model {how.model}: {rate or 'any'} Hz, {count(times, 'step')} of {how.sampler}"
    if how.shots > 1:
        line += f", {how.shots} shots"
    if how.band == "model" and rate is not None and rate < highest_rate:
        line += f"; nothing above its {rate // 2} Hz is kept"
    return line


def file_lines(report: FileReport) -> list[str]:
    """What was done to one file."""
    done = (
        f"{report.output}: {report.seconds:.2f} s at {report.sample_rate:g} Hz, "
        f"{count(report.channels, 'channel')}, cleaned in {report.taken:.2f} s "
        f"(real-time factor {report.real_time_factor:.4f})"
    )
    return [done] if report.note is None else [done, f"note: {report.note}"]


def summary_lines(outcome: Outcome, *, skipped: int, report: Path | None) -> list[str]:
    """What was done to many files."""
    seconds = sum(done.seconds for done in outcome.reports)
    factor = f" (real-time factor {outcome.taken / seconds:.4f})" if seconds else ""
    notes = [f"note: {done.note}" for done in outcome.reports if done.note is not None]
    whole = (
        f"{count(len(outcome.reports), 'file')}, {span(seconds)} of audio, "
        f"cleaned in {span(outcome.taken)}{factor}, {len(outcome.failed)} failed, "
        f"{skipped} skipped; report: {report}"
    )
    return [*_first(notes), whole]


def _first(notes: Sequence[str]) -> list[str]:
    more = len(notes) - MOST_NOTES
    return [*notes[:MOST_NOTES], *([f"and {count(more, 'further note')}"] if more > 0 else [])]
