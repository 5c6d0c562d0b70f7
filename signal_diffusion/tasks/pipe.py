"""Denoise from a pipe, into a pipe, or both."""

from __future__ import annotations

import time
from dataclasses import replace

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.recordings.pipes import PipeReader, PipeWriter
from signal_diffusion.recordings.reading import Reader
from signal_diffusion.recordings.writing import Writer
from signal_diffusion.tasks.denoise import given_normal
from signal_diffusion.tasks.engine import Engine
from signal_diffusion.tasks.files import FileReport, Tally, file_normal, run, sound_blocks
from signal_diffusion.tasks.settings import Settings
from signal_diffusion.tasks.stream import EVERY


def denoise_pipe(
    denoiser: Denoiser,
    source: PipeReader | Reader,
    sink: PipeWriter | Writer,
    *,
    settings: Settings = Settings(),
    mix: bool = False,
) -> FileReport:
    """Denoise samples as they come; each estimate is written as soon as it can be known.

    A file is read twice, first for its level; a pipe can't be, so that its gain follows the level
    (see `DenoiseStream`) unless the settings give it.

    Raises:
        InputError: the samples can't be used, or the settings don't fit.
    """
    began = time.perf_counter()
    form, channels = source.form, 1 if mix else source.form.channels
    normal = given_normal(denoiser, settings.level)
    if normal is None and isinstance(source, Reader):
        normal = file_normal(denoiser, source, settings, mix)
    blocks = sound_blocks(source, mix)
    engine = Engine(
        denoiser, settings, rate=form.sample_rate, channels=channels, dtype=form.dtype,
        normal=normal, least=max(1, round(EVERY * (denoiser.sample_rate or form.sample_rate))),
    )  # fmt: skip
    tally = Tally(replace(form, channels=channels))
    run(engine, zip(blocks), [tally, lambda _, draws: sink.write(draws.mean(axis=1))])
    return tally.report("-", "-", time.perf_counter() - began, None)
