"""What the command says."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from signal_diffusion.errors import reason

if TYPE_CHECKING:
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.streaming.noise_check import ChannelNoise
    from signal_diffusion.streaming.settings import Settings
    from signal_diffusion.tasks.denoise_files import FileReport
    from signal_diffusion.tasks.jobs import Header, Job
    from signal_diffusion.tasks.workers import Outcome


#: Notes that are told one by one; the rest is in the report.
MOST_NOTES = 10
#: Unicode's categories of control characters, halves of others, and ends of lines, and the kinds
#: of marks that turn the direction of the text after them.
ODD = ("Cc", "Cs", "Zl", "Zp")
TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def say(line: str, *, err: bool = False) -> None:
    """Write one line, whatever a file's name in it holds.

    Where standard output can't take it, standard error says so: the work itself is done.
    """
    try:
        typer.echo(printable(line), err=err)
    except OSError as error:
        _close_for_good(sys.stderr if err else sys.stdout)
        if not err:
            say(f"note: standard output can't be written: {error.strerror or error}", err=True)


def _close_for_good(stream: TextIO) -> None:
    """Lead a stream nowhere, so that what it still holds fails no second time."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def printable(line: str) -> str:
    """A line in which what would move a terminal's cursor, or is no text, is spelt out.

    >>> printable("nu\\n.wav")
    'nu\\\\n.wav'
    """
    return "".join(
        mark.encode("unicode_escape").decode()
        if unicodedata.category(mark) in ODD or unicodedata.bidirectional(mark) in TURNING
        else mark
        for mark in line
    )


def failure_line(job: Job, error: Exception) -> str:
    """What went wrong with one of many files."""
    why = reason(error)
    return f"failed: {why}" if str(job.source) in why else f"failed: {job.source}: {why}"


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


def model_line(model: str, denoiser: Denoiser, settings: Settings, *, highest_rate: float) -> str:
    """Model, steps, and what is lost of recordings of up to the highest rate in Hz."""
    rate, sampler = denoiser.sample_rate, getattr(settings.sampler, "__name__", "a sampler")
    line = f"model {model}: {rate or 'any'} Hz, {count(settings.times, 'step')} of {sampler}"
    if settings.shots > 1:
        line += f", {settings.shots} shots"
    if settings.band == "model" and rate is not None and rate < highest_rate:
        line += f"; nothing above its {rate // 2} Hz is kept"
    return line


def file_lines(report: FileReport) -> list[str]:
    """What was done to one file."""
    done = (
        f"{report.output}: {report.seconds:.2f} s at {report.sample_rate:g} Hz, "
        f"{count(report.channels, 'channel')}, cleaned in {report.processing_seconds:.2f} s "
        f"(real-time factor {report.real_time_factor:.4f})"
    )
    notes = [] if report.note is None else [f"note: {report.note}"]
    return [done, *_first([noise_line(channel) for channel in report.noise or ()]), *notes]


def noise_line(noise: ChannelNoise) -> str:
    """What was called noise in one channel.

    >>> from signal_diffusion.streaming.noise_check import ChannelNoise
    >>> noise_line(ChannelNoise("flow", 0.31, 0.52, True, 0.97))
    'noise in flow: 31 % of the variance, 0.97 of the deviation of 0.52 (estimated)'
    """
    if noise.ratio is None:
        return f"noise in {noise.channel}: none"
    line = (
        f"noise in {noise.channel}: {100 * noise.share:.3g} % of the variance, "
        f"{noise.ratio:.2f} of the deviation of {noise.noise_std:.3g} "
        f"({'estimated' if noise.estimated else 'given'})"
    )
    if noise.white is None:
        return line
    line += f"; white over {100 * noise.white:.0f} % of the band, "
    if not noise.exceeds:
        return f"{line}nowhere above white noise"
    return (
        f"{line}{noise.highest_db:.1f} dB above white noise at {noise.highest_hz:.3g} Hz: "
        "more than noise was removed there"
    )


def done_line(headers: Sequence[Header]) -> str:
    """That there is nothing to do."""
    there = str(headers[0].written.target)
    if len(headers) == 1:
        return f"{there} exists already: nothing to do"
    return f"{there} and {len(headers) - 1} more exist already: nothing to do"


def left_out_lines(kinds: Sequence[str]) -> list[str]:
    """What could not be read at all, if there was such."""
    from signal_diffusion.tasks.inputs import counted

    return [f"left out, since they can't be read: {counted(kinds)}"] if kinds else []


def summary_lines(
    outcome: Outcome, *, skipped: int, report: Path | None, left_out: Sequence[str] = ()
) -> list[str]:
    """What was done to many files."""
    seconds = sum(done.seconds for done in outcome.reports)
    factor = f" (real-time factor {outcome.taken / seconds:.4f})" if seconds else ""
    notes = [f"note: {done.note}" for done in outcome.reports if done.note is not None]
    whole = (
        f"{count(len(outcome.reports), 'file')}, {span(seconds)} of audio, "
        f"cleaned in {span(outcome.taken)}{factor}, {len(outcome.failed)} failed, "
        f"{skipped} skipped; report: {report}"
    )
    return [*_first(notes), *left_out_lines(left_out), whole, *_noise_of_many(outcome)]


def _noise_of_many(outcome: Outcome) -> list[str]:
    """What was called noise in all channels of many files, where that is known."""
    noises = [noise for done in outcome.reports for noise in done.noise or ()]
    if not noises:
        return []
    shares = [100 * noise.share for noise in noises]
    above = sum(noise.exceeds for noise in noises)
    return [
        f"noise: {min(shares):.3g} to {max(shares):.3g} % of the variance of "
        f"{count(len(noises), 'channel')}, {above} of them with more than white noise removed"
    ]


def _first(notes: Sequence[str]) -> list[str]:
    more = len(notes) - MOST_NOTES
    return [*notes[:MOST_NOTES], *([f"and {count(more, 'further note')}"] if more > 0 else [])]
