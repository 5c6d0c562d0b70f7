"""`signal-diffusion denoise --dry-run`: what would be done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from signal_diffusion.cli.asked import How
from signal_diffusion.cli.lines import count, left_out_lines, model_line, say, span
from signal_diffusion.cli.models import loaded
from signal_diffusion.errors import InputError
from signal_diffusion.tasks.headers import Header

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.tasks.settings import Settings

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
