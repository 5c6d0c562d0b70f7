"""Denoise a table of sensor readings into a table, in physical units and with its time stamps."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.pictures import Curves, drawing_curves
from signal_diffusion.recordings.tables import TableReader, opened_table, writing_table
from signal_diffusion.tasks.buffers import Array
from signal_diffusion.tasks.denoise import bands_of, given_normal, measured_normal
from signal_diffusion.tasks.engine import Engine
from signal_diffusion.tasks.files import (
    FileReport,
    Progress,
    Sink,
    Tally,
    band_file,
    run,
    spreading,
)
from signal_diffusion.tasks.levelling import Normal
from signal_diffusion.tasks.overlap import ahead
from signal_diffusion.tasks.plans import Columns
from signal_diffusion.tasks.removed import removed_noise
from signal_diffusion.tasks.settings import Settings
from signal_diffusion.tasks.signals import LARGEST, model_or_given_rate
from signal_diffusion.windows import Window


def denoise_table(
    denoiser: Denoiser,
    source: Path,
    target: Path,
    *,
    columns: Columns = Columns(),
    settings: Settings = Settings(),
    force: bool = False,
    keep_noise: Path | None = None,
    plot: Path | None = None,
    window: Window | None = None,
    uncertainty: Path | None = None,
    progress: Progress | None = None,
) -> FileReport:
    """Denoise a CSV, TSV, Parquet, NPY, NPZ or WFDB table; outputs appear whole or not at all.

    Other columns, names, units, time stamps and rows stay as they are; readings that are missing
    are filled from their neighbours and then denoised, by denoisers that are masked from the
    context, and marked in a column NAME_filled.

    Args:
        denoiser: see `tasks.denoise.denoise`.
        source, target: the table as it came and the one to write.
        columns: which columns are channels, and at what rate, where the file does not tell.
        settings: how to denoise; levels are in the channels' own units.
        force: replace outputs that exist.
        keep_noise: table for what was removed.
        plot: PNG for a window of the recording, see `pictures.Curves`.
        window: where that begins and ends; None for the ten seconds in which most was removed.
        uncertainty: NPZ for `std`, `low` and `high` (C, L) and what is said with them, see
            `files.denoise_file`.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: a table can't be read or written, or the settings don't fit.
    """
    began = time.perf_counter()
    if uncertainty is not None and settings.shots == 1:
        raise InputError("uncertainty needs several draws: pass shots (--shots), e.g. 8")
    opening = opened_table(
        source, rate=columns.rate, channels=columns.channels, time=columns.time,
        delimiter=columns.delimiter, skip=columns.skip,
    )  # fmt: skip
    with opening as reader, ExitStack() as outputs:
        form, tally = reader.form, Tally(reader.form)
        writer = outputs.enter_context(writing_table(target, reader, force=force))
        sinks: list[Sink] = [tally, lambda _, draws: writer.write(draws.mean(axis=1))]
        if keep_noise is not None:
            noise = outputs.enter_context(
                writing_table(keep_noise, reader, force=force, mask=False)
            )
            sinks.append(lambda heard, draws: noise.write(heard - draws.mean(axis=1)))
        band = None if uncertainty is None else band_file(outputs, uncertainty, form, force)
        normal = _normal(denoiser, reader, settings)
        if band is not None:
            sinks.append(spreading(band, denoiser, settings, normal))
        removed = removed_noise(denoiser, settings, normal, form.sample_rate, form.names)
        sinks += [] if removed is None else [removed]
        if plot is not None:
            curves = Curves(
                form.names, form.units, form.sample_rate, reader.frames, window=window,
                noise_std=None if removed is None else removed.noise_std,
                bands=bands_of(denoiser, settings), scale=settings.strength / normal.gain,
            )  # fmt: skip
            sinks.append(outputs.enter_context(drawing_curves(plot, curves, force=force)).push)
        engine = Engine(
            denoiser, settings, rate=form.sample_rate, channels=form.channels, dtype=form.dtype,
            normal=normal, frames=reader.frames, progress=progress,
        )  # fmt: skip
        run(engine, ahead(reader.marked()), sinks)
    return tally.report(source, target, time.perf_counter() - began, writer.note, removed)


def _normal(denoiser: Denoiser, reader: TableReader, settings: Settings) -> Normal:
    """What brings the channels to the denoiser's level, as it is given or found by a first pass."""
    given = given_normal(denoiser, settings.level)
    if given is not None:
        return given
    rate = model_or_given_rate(denoiser, reader.form.sample_rate)
    blocks = (_sane(block, reader) for block in reader.blocks())
    return measured_normal(denoiser, blocks, rate, noise_std=settings.noise_std)


def _sane(block: Array, reader: TableReader) -> Array:
    largest = np.abs(block).max(initial=0)
    if largest > LARGEST:
        raise InputError(f"{reader.path} holds readings of {largest:g}: it is damaged")
    return block
