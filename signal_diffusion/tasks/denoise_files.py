"""Denoise a file into a file, in the form that it came in and in bounded memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, starmap
from pathlib import Path
from typing import Protocol

import numpy as np

from signal_diffusion.audio.files import Reader, Writer, opened, writing
from signal_diffusion.audio.forms import Form, stored_form
from signal_diffusion.audio.pipes import PipeReader, PipeWriter
from signal_diffusion.calibration import spread
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.levels import FRAME, LevelMeter
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import require_writable
from signal_diffusion.files.npz import ArraysWriter, writing_npz
from signal_diffusion.plots.curves import Curves, drawing_curves
from signal_diffusion.plots.window import Window
from signal_diffusion.samplers import Progress
from signal_diffusion.streaming.background import ahead, behind
from signal_diffusion.streaming.engine import Engine
from signal_diffusion.streaming.gain import Normal
from signal_diffusion.streaming.noise_check import ChannelNoise, Removed, removed_noise
from signal_diffusion.streaming.settings import LARGEST, Settings, model_or_given_rate
from signal_diffusion.tables import TableReader, opened_table, writing_table
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tasks.denoise import bands_of, given_normal, measured_normal
from signal_diffusion.tasks.stream import EVERY

#: Takes the samples (C, n) of a recording and the draws (C, shots, n) of the clean one.
Sink = Callable[[Array, Array], None]


#: Arrays that tell the spread of several draws.
BAND = ("std", "low", "high")


#: Of the frames whose levels are told, s.
FRAME_SECONDS = 0.032


class Stored(Protocol):
    """What counts of the form of a recording, of sound or of readings."""

    @property
    def sample_rate(self) -> float: ...

    @property
    def channels(self) -> int: ...


@dataclass(frozen=True)
class FileReport:
    """What was done to one file.

    Attributes:
        path, output: the files.
        sample_rate, channels, seconds: of the output, in Hz and s.
        level_in_db, level_out_db: of the loud frames, dB of full scale.
        estimated_snr_db: the power of what was kept over that of what was removed; None where
            nothing was kept or removed.
        processing_seconds, real_time_factor: time of the work in s, and that over `seconds`.
        note: what could not be given back as it came.
        noise: of denoisers that go by the noise, what was called noise; None for others.
    """

    path: str
    output: str
    sample_rate: float
    channels: int
    seconds: float
    level_in_db: float
    level_out_db: float
    estimated_snr_db: float | None
    processing_seconds: float
    real_time_factor: float
    note: str | None
    noise: tuple[ChannelNoise, ...] | None = None


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
    if uncertainty is not None and settings.shots == 1:
        raise InputError("uncertainty needs several draws: pass shots (--shots), e.g. 8")
    with opened(source) as reader, ExitStack() as outputs:
        form = replace(reader.form, channels=1) if mix else reader.form
        target, stored, note = stored_form(target, form, frames=reader.frames)
        tally = Tally(form)
        # What is entered first is finished last: the target is there once all the others are.
        writer = outputs.enter_context(writing(target, stored, like=source, force=force))
        sinks: list[Sink] = [tally, lambda _, draws: writer.write(draws.mean(axis=1))]
        if keep_noise is not None:
            sinks.append(_noise(outputs, keep_noise, reader, form, force))
        band = None if uncertainty is None else band_file(outputs, uncertainty, form, force)
        if plot is not None:
            sinks.append(drawing(outputs, plot, form, reader.frames, force))
        normal = file_normal(denoiser, reader, settings, mix)
        if band is not None:
            sinks.append(spreading(band, denoiser, settings, normal))
        names = [str(n + 1) for n in range(form.channels)]
        removed = removed_noise(denoiser, settings, normal, form.sample_rate, names)
        sinks += [] if removed is None else [removed]
        engine = Engine(
            denoiser, settings, rate=form.sample_rate, channels=form.channels, dtype=form.dtype,
            normal=normal, frames=reader.frames, progress=progress,
        )  # fmt: skip
        run(engine, zip(ahead(sound_blocks(reader, mix))), sinks)
    return tally.report(source, target, time.perf_counter() - began, note, removed)


def run(engine: Engine, blocks: Iterable[tuple[Array, ...]], sinks: list[Sink]) -> None:
    """Hand all that an engine makes of some blocks, or blocks with masks, to the sinks."""

    def all_sinks(heard: Array, draws: Array) -> None:
        for sink in sinks:
            sink(heard, draws)

    with behind(all_sinks) as push:
        for known in chain(chain.from_iterable(starmap(engine.push, blocks)), engine.flush()):
            push(*known)


def file_normal(denoiser: Denoiser, reader: Reader, settings: Settings, mix: bool) -> Normal:
    """What brings the file to the denoiser's level, as it is given or found by a first pass."""
    given = given_normal(denoiser, settings.level)
    if given is not None:
        return given
    rate = model_or_given_rate(denoiser, reader.form.sample_rate)
    blocks = sound_blocks(reader, mix)
    return measured_normal(denoiser, blocks, rate, noise_std=settings.noise_std)


def sound_blocks(reader: Reader | PipeReader, mix: bool) -> Iterator[Array]:
    """A recording's blocks (C, n), mixed to one channel if asked for, with samples of sane size."""
    name = reader.path if isinstance(reader, Reader) else "standard input"
    for block in reader.blocks():
        if np.abs(block).max(initial=0) > LARGEST:
            raise InputError(f"{name} holds samples over {LARGEST:g}: it is damaged")
        yield block.mean(axis=0, keepdims=True) if mix else block


class Tally:
    """Levels and powers of what comes by."""

    def __init__(self, form: Stored) -> None:
        self.form, self.frames = form, 0
        frame = max(FRAME, round(FRAME_SECONDS * form.sample_rate))
        self.before, self.after = (LevelMeter(form.channels, frame=frame) for _ in range(2))
        self.kept = self.removed = 0.0

    def __call__(self, heard: Array, draws: Array) -> None:
        mean = draws.mean(axis=1)
        self.frames += heard.shape[1]
        self.before.push(heard)
        self.after.push(mean)
        self.kept += float(np.square(mean, dtype=np.float64).sum())
        self.removed += float(np.square(heard - mean, dtype=np.float64).sum())

    def report(
        self,
        source: Path | str,
        target: Path | str,
        taken: float,
        note: str | None,
        removed: Removed | None = None,
    ) -> FileReport:
        """What was seen, as a row."""
        form = self.form
        seconds = self.frames / form.sample_rate
        both = self.kept > 0 and self.removed > 0
        return FileReport(
            path=str(source),
            output=str(target),
            sample_rate=form.sample_rate,
            channels=form.channels,
            seconds=seconds,
            level_in_db=round(self.before.level_db, 2),
            level_out_db=round(self.after.level_db, 2),
            estimated_snr_db=round(10 * math.log10(self.kept / self.removed), 2) if both else None,
            processing_seconds=round(taken, 3),
            real_time_factor=round(taken / seconds, 5) if seconds else 0.0,
            note=note,
            noise=None if removed is None else removed.channels(),
        )


def _noise(outputs: ExitStack, path: Path, reader: Reader, form: Form, force: bool) -> Sink:
    path, stored, _ = stored_form(path, form, frames=reader.frames)
    # With its start time, so that it lies beside the original.
    writer = outputs.enter_context(writing(path, stored, like=reader.path, force=force))
    return lambda heard, draws: writer.write(heard - draws.mean(axis=1))


def band_file(outputs: ExitStack, path: Path, form: Stored, force: bool) -> ArraysWriter:
    """An NPZ for the deviation and ends of a band, which is there when the outputs are."""
    arrays = outputs.enter_context(writing_npz(path, BAND, channels=form.channels, force=force))
    arrays.put("sample_rate", form.sample_rate)
    return arrays


def spreading(arrays: ArraysWriter, denoiser: Denoiser, settings: Settings, normal: Normal) -> Sink:
    """Writes the deviation of the draws and the ends of their band, calibrated if that is known."""
    bands, scale = bands_of(denoiser, settings), settings.strength / normal.gain
    arrays.put("calibrated", bands is not None)

    def sink(_: Array, draws: Array) -> None:
        for name, block in zip(BAND, spread(draws, bands, scale)[1:], strict=True):
            arrays.write(name, block)

    return sink


def drawing(outputs: ExitStack, path: Path, form: Stored, frames: int | None, force: bool) -> Sink:
    """Draws spectrograms before, after and of what was removed into a PNG, there at the end."""
    from signal_diffusion.plots.spectrograms import Spectrograms

    require_writable(path, force=force)
    pictures = Spectrograms(("before", "after", "removed"), form.sample_rate, frames)
    outputs.push(lambda kind, *_: pictures.save(path, force=force) if kind is None else None)

    def sink(heard: Array, draws: Array) -> None:
        mean = draws.mean(axis=1)
        pictures.push(heard, mean, heard - mean)

    return sink


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
    opening = opened_table(source, columns, domain=denoiser.domain or "")
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
    notes = [*reader.notes(), *([] if writer.note is None else [writer.note])]
    note = "; ".join(notes) or None
    return tally.report(source, target, time.perf_counter() - began, note, removed)


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
