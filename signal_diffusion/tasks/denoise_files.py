"""Denoise a file into a file, in the form that it came in and in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, starmap
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.audio.files import Reader, Writer, opened, writing
from signal_diffusion.audio.forms import stored_form
from signal_diffusion.audio.pipes import PipeReader, PipeWriter
from signal_diffusion.calibration import spread
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import require_finite_result
from signal_diffusion.files.npz import ArraysWriter, writing_npz
from signal_diffusion.plots.curves import Curves
from signal_diffusion.plots.spectrograms import Spectrograms, saving
from signal_diffusion.plots.window import Window
from signal_diffusion.samplers import Progress
from signal_diffusion.streaming.background import ahead, behind, gathered
from signal_diffusion.streaming.engine import Engine
from signal_diffusion.streaming.gain import Normal
from signal_diffusion.streaming.noise_check import Removed, removed_noise
from signal_diffusion.streaming.settings import LARGEST, Settings
from signal_diffusion.tables import TableWriter, opened_table, writing_table
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tasks.denoise import bands_of, given_normal, normal_for
from signal_diffusion.tasks.stream import EVERY
from signal_diffusion.tasks.workers import FileReport, Stored, Tally

#: Power of the mean of channels over their own, below which they cancel each other: -20 dB.
CANCELLED = 0.01
#: Samples of a pipe, of all channels, that wait while others are denoised: at 48 kHz, 22 s of two.
WAITING = 1 << 21
#: Takes the samples (C, n) of a recording and the draws (C, shots, n) of the clean one.
Sink = Callable[[Array, Array], None]
#: Arrays that tell the spread of several draws.
BAND = ("std", "low", "high")


def denoise_file(
    denoiser: Denoiser,
    source: Path,
    target: Path,
    *,
    settings: Settings = Settings(),
    mix: bool = False,
    force: bool = False,
    keep_noise: Path | None = None,
    plot: Path | None = None,
    uncertainty: Path | None = None,
    progress: Progress | None = None,
) -> FileReport:
    """Denoise a file of any length; outputs appear whole, under their names, or not at all.

    Args:
        denoiser: see `tasks.denoise.denoise`.
        source, target: the noisy file and the one to write. Where the target's container can't
            hold the form of the source, another is written; the report's note says which.
        settings: how to denoise.
        mix: denoise the mean of the channels, into one channel.
        force: replace outputs that exist.
        keep_noise: file for what was removed.
        plot: PNG for the spectrograms before, after, and of what was removed.
        uncertainty: NPZ for `std`, `low` and `high` (C, L), see `denoise.Posterior`, with
            `sample_rate`, and `calibrated`: whether these go by the model's `Bands`.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: a file can't be read or written, or the settings don't fit.
    """
    began = time.perf_counter()
    mixer = Mix() if mix else None
    with opened(source) as reader, ExitStack() as outputs:
        form = replace(reader.form, channels=1) if mix else reader.form
        target, stored, note = stored_form(target, form, frames=reader.frames)
        # What is entered first is finished last: the target is there once all the others are.
        writer = outputs.enter_context(writing(target, stored, like=source, force=force))
        sinks = [estimate_sink(writer)]
        if keep_noise is not None:
            path, stored, _ = stored_form(keep_noise, form, frames=reader.frames)
            # With its start time, so that it lies beside the original.
            noise = writing(path, stored, like=source, force=force)
            sinks.append(noise_sink(outputs.enter_context(noise)))
        band = _band_file(outputs, uncertainty, form, settings, force)
        if plot is not None:
            titles = (f"{source.name}: before", "after", "removed")
            pictures = Spectrograms(titles, form.sample_rate, reader.frames)
            draw = outputs.enter_context(saving(pictures, plot, force)).push
            sinks.append(lambda noisy, draws: draw(noisy, x := draws.mean(axis=1), noisy - x))
        normal = normal_for(denoiser, settings, sound_blocks(reader, mixer), form.sample_rate)
        names = [str(n + 1) for n in range(form.channels)]
        removed = removed_noise(denoiser, settings, normal, form.sample_rate, names)
        sinks += _measures(denoiser, settings, normal, band, removed)
        blocks = zip(ahead(sound_blocks(reader, mixer)))
        engine = _engine(denoiser, settings, normal, form, frames=reader.frames, progress=progress)
        tally = _run(engine, form, blocks, sinks)
    note = notes(reader.note, None if mixer is None else mixer.note, note)
    return tally.report(source, target, began, note=note, removed=removed)


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
    announce: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> FileReport:
    """Denoise a CSV, TSV, Parquet, NPY, NPZ or WFDB table; outputs appear whole or not at all.

    Other columns, names, units, time stamps and rows stay as they are; missing readings are filled
    from their neighbours and then denoised, by masked denoisers from the context, and marked in a
    column NAME_filled.

    Args:
        denoiser: see `tasks.denoise.denoise`.
        source, target: the table as it came and the one to write.
        columns: which columns are channels, and at what rate, where the file doesn't say.
        settings: how to denoise; levels are in the channels' own units.
        force: replace outputs that exist.
        keep_noise: table for what was removed.
        plot: PNG for a window of the recording, see `plots.curves.Curves`.
        window: where that begins and ends; None for the ten seconds in which most was removed.
        uncertainty: NPZ, see `denoise_file`.
        announce: called before the work with a line that names the columns that change and those
            that stay, with the reason.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: a table can't be read or written, or the settings don't fit.
    """
    began = time.perf_counter()
    opening = opened_table(source, columns, domain=denoiser.domain or "")
    with opening as reader, ExitStack() as outputs:
        if announce is not None:
            announce(reader.choice())
        form = reader.form
        writer = outputs.enter_context(writing_table(target, reader, force=force))
        sinks = [estimate_sink(writer)]
        if keep_noise is not None:
            noise = writing_table(keep_noise, reader, force=force, mask=False)
            sinks.append(noise_sink(outputs.enter_context(noise)))
        band = _band_file(outputs, uncertainty, form, settings, force)
        sane = _sane(reader.blocks(), f"{reader.path} holds readings")
        normal = normal_for(denoiser, settings, sane, form.sample_rate)
        removed = removed_noise(denoiser, settings, normal, form.sample_rate, form.names)
        if plot is not None:
            curves = Curves(
                form.names,
                form.units,
                form.sample_rate,
                reader.frames,
                window=window,
                noise_std=None if removed is None else removed.noise_std,
                bands=bands_of(denoiser, settings),
                scale=settings.strength / normal.gain,
                source=source.name,
            )
            sinks.append(outputs.enter_context(saving(curves, plot, force)).push)
        sinks += _measures(denoiser, settings, normal, band, removed)
        engine = _engine(denoiser, settings, normal, form, frames=reader.frames, progress=progress)
        tally = _run(engine, form, ahead(reader.marked()), sinks)
    note = notes(*reader.notes(), writer.note)
    return tally.report(source, target, began, note=note, removed=removed)


def denoise_pipe(
    denoiser: Denoiser,
    source: PipeReader | Reader,
    sink: PipeWriter | Writer,
    *,
    settings: Settings = Settings(),
    mix: bool = False,
) -> FileReport:
    """Denoise samples as they come; each estimate is written as soon as it can be computed.

    A file is read twice, first for its level; a pipe can't be, so that its gain follows the level
    (see `DenoiseStream`) unless the settings give it.

    Raises:
        InputError: the samples can't be used, or the settings don't fit.
    """
    began = time.perf_counter()
    form = replace(source.form, channels=1) if mix else source.form
    mixer = Mix() if mix else None
    normal = given_normal(denoiser, settings.level)
    if isinstance(source, Reader):
        normal = normal_for(denoiser, settings, sound_blocks(source, mixer), form.sample_rate)
    least = max(1, round(EVERY * (denoiser.sample_rate or form.sample_rate)))
    engine = _engine(denoiser, settings, normal, form, least=least)
    blocks = gathered(sound_blocks(source, mixer), WAITING)
    tally = _run(engine, form, zip(blocks), [estimate_sink(sink)])
    note = notes(getattr(source, "note", None), None if mixer is None else mixer.note)
    return tally.report("-", "-", began, note=note)


def _engine(
    denoiser: Denoiser, settings: Settings, normal: Normal | None, form: Stored, **more: Any
) -> Engine:
    rate, channels = form.sample_rate, form.channels
    return Engine(
        denoiser, settings, rate=rate, channels=channels, dtype=form.dtype, normal=normal, **more
    )


def _run(
    engine: Engine, form: Stored, blocks: Iterable[tuple[Array, ...]], sinks: Sequence[Sink]
) -> Tally:
    """Hand all that becomes of some blocks, or blocks with masks, to the sinks."""
    tally = Tally(form)
    every: list[Sink] = [tally, *sinks]

    def all_sinks(noisy: Array, draws: Array) -> None:
        require_finite_result(draws)
        for sink in every:
            sink(noisy, draws)

    with behind(all_sinks) as push:
        for pair in chain(chain.from_iterable(starmap(engine.push, blocks)), engine.flush()):
            push(*pair)
    return tally


def notes(*lines: str | None) -> str | None:
    """The notes that there are, as one; None for none."""
    return "; ".join(line for line in lines if line is not None) or None


def estimate_sink(writer: Writer | PipeWriter | TableWriter) -> Sink:
    """Writes the mean of the draws."""
    return lambda _, draws: writer.write(draws.mean(axis=1))


def noise_sink(writer: Writer | TableWriter) -> Sink:
    """Writes what was removed."""
    return lambda noisy, draws: writer.write(noisy - draws.mean(axis=1))


def _measures(
    denoiser: Denoiser,
    settings: Settings,
    normal: Normal,
    arrays: ArraysWriter | None,
    removed: Removed | None,
) -> list[Sink]:
    """What looks at the noise, and writes the spread of the draws, calibrated where it can be."""
    sinks: list[Sink] = [] if removed is None else [removed]
    if arrays is None:
        return sinks
    bands, scale = bands_of(denoiser, settings), settings.strength / normal.gain
    arrays.put("calibrated", bands is not None)

    def sink(_: Array, draws: Array) -> None:
        for name, block in zip(BAND, spread(draws, bands, scale)[1:], strict=True):
            arrays.write(name, block)

    return [sink, *sinks]


def _band_file(
    outputs: ExitStack, path: Path | None, form: Stored, settings: Settings, force: bool
) -> ArraysWriter | None:
    """An NPZ for the deviation and ends of a band, which is there when the outputs are."""
    if path is None:
        return None
    if settings.shots == 1:
        raise InputError("uncertainty needs several draws: pass shots (--shots), e.g. 8")
    arrays = outputs.enter_context(writing_npz(path, BAND, channels=form.channels, force=force))
    arrays.put("sample_rate", form.sample_rate)
    return arrays


class Mix:
    """The mean of the channels of a recording, and whether they cancel each other there."""

    def __init__(self) -> None:
        self._each = self._mixed = 0.0

    def __call__(self, block: Array) -> Array:
        """Samples (C, n) as one channel (1, n)."""
        mean = block.mean(axis=0, keepdims=True)
        self._each += float(np.square(block, dtype=np.float64).mean(axis=0).sum())
        self._mixed += float(np.square(mean, dtype=np.float64).sum())
        return np.asarray(mean)

    @property
    def note(self) -> str | None:
        """That little is left of the channels, if so."""
        if self._mixed >= CANCELLED * self._each:
            return None
        return (
            "the channels cancel each other where they are mixed: clean each on its own "
            "(--channels each), or turn one of them round"
        )


def sound_blocks(reader: Reader | PipeReader, mix: Mix | None) -> Iterator[Array]:
    """A recording's blocks (C, n), mixed to one channel if asked for, with samples of sane size."""
    name = str(reader.path) if isinstance(reader, Reader) else "standard input"
    blocks = _sane(reader.blocks(), f"{name} holds samples")
    return blocks if mix is None else map(mix, blocks)


def _sane(blocks: Iterable[Array], what: str) -> Iterator[Array]:
    for block in blocks:
        if (largest := np.abs(block).max(initial=0)) > LARGEST:
            raise InputError(f"{what} of {largest:g}: it is damaged")
        yield block
