"""Denoise a file into a file, in the form that it came in and in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from itertools import chain, starmap
from pathlib import Path

import numpy as np

from signal_diffusion.audio.files import Reader, Writer, opened, writing
from signal_diffusion.audio.forms import stored_form
from signal_diffusion.audio.pipes import PipeReader, PipeWriter
from signal_diffusion.calibration import spread
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.npz import ArraysWriter, writing_npz
from signal_diffusion.plots.curves import Curves
from signal_diffusion.plots.spectrograms import Spectrograms, saving
from signal_diffusion.plots.window import Window
from signal_diffusion.samplers import Progress
from signal_diffusion.streaming.background import ahead, behind
from signal_diffusion.streaming.engine import Engine
from signal_diffusion.streaming.gain import Normal
from signal_diffusion.streaming.noise_check import Removed, removed_noise
from signal_diffusion.streaming.settings import LARGEST, Settings, model_or_given_rate
from signal_diffusion.tables import TableReader, TableWriter, opened_table, writing_table
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tasks.denoise import bands_of, given_normal, measured_normal
from signal_diffusion.tasks.file_report import FileReport, Stored, Tally
from signal_diffusion.tasks.stream import EVERY

#: Power of the mean of channels over their own, below which they cancel each other: -20 dB.
CANCELLED = 0.01
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
    _require_draws(uncertainty, settings)
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
        band = _band_file(outputs, uncertainty, form, force)
        if plot is not None:
            titles = (f"{source.name}: before", "after", "removed")
            pictures = Spectrograms(titles, form.sample_rate, reader.frames)
            sinks.append(spectrogram_sink(outputs.enter_context(saving(pictures, plot, force))))
        normal = file_normal(denoiser, reader, settings, mixer)
        names = [str(n + 1) for n in range(form.channels)]
        removed = removed_noise(denoiser, settings, normal, form.sample_rate, names)
        work = Work(denoiser, settings, normal, form, reader.frames, band=band, removed=removed)
        tally = work.run(zip(ahead(sound_blocks(reader, mixer))), sinks, progress)
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
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: a table can't be read or written, or the settings don't fit.
    """
    began = time.perf_counter()
    _require_draws(uncertainty, settings)
    opening = opened_table(source, columns, domain=denoiser.domain or "")
    with opening as reader, ExitStack() as outputs:
        form = reader.form
        writer = outputs.enter_context(writing_table(target, reader, force=force))
        sinks = [estimate_sink(writer)]
        if keep_noise is not None:
            noise = writing_table(keep_noise, reader, force=force, mask=False)
            sinks.append(noise_sink(outputs.enter_context(noise)))
        band = _band_file(outputs, uncertainty, form, force)
        normal = _table_normal(denoiser, reader, settings)
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
        work = Work(denoiser, settings, normal, form, reader.frames, band=band, removed=removed)
        tally = work.run(ahead(reader.marked()), sinks, progress)
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
    if normal is None and isinstance(source, Reader):
        normal = file_normal(denoiser, source, settings, mixer)
    least = max(1, round(EVERY * (denoiser.sample_rate or form.sample_rate)))
    work = Work(denoiser, settings, normal, form, least=least)
    tally = work.run(zip(sound_blocks(source, mixer)), [estimate_sink(sink)])
    note = notes(getattr(source, "note", None), None if mixer is None else mixer.note)
    return tally.report("-", "-", began, note=note)


@dataclass
class Work:
    """The denoising of one recording.

    Attributes:
        denoiser, settings, normal, frames, least: see `streaming.engine.Engine`.
        form: of the recording.
        band: file for the spread of the draws.
        removed: takes what is removed.
    """

    denoiser: Denoiser
    settings: Settings
    normal: Normal | None
    form: Stored
    frames: int | None = None
    _: KW_ONLY
    least: int | None = None
    band: ArraysWriter | None = None
    removed: Removed | None = None

    def run(
        self,
        blocks: Iterable[tuple[Array, ...]],
        sinks: Sequence[Sink],
        progress: Progress | None = None,
    ) -> Tally:
        """Hand all that becomes of some blocks, or blocks with masks, to the sinks."""
        tally, form = Tally(self.form), self.form
        every: list[Sink] = [tally, *sinks]
        if self.band is not None and self.normal is not None:
            every.append(spread_sink(self.band, self.denoiser, self.settings, self.normal))
        if self.removed is not None:
            every.append(self.removed)
        engine = Engine(
            self.denoiser,
            self.settings,
            rate=form.sample_rate,
            channels=form.channels,
            dtype=form.dtype,
            normal=self.normal,
            least=self.least,
            frames=self.frames,
            progress=progress,
        )

        def all_sinks(noisy: Array, draws: Array) -> None:
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


def spread_sink(
    arrays: ArraysWriter, denoiser: Denoiser, settings: Settings, normal: Normal
) -> Sink:
    """Writes the deviation of the draws and the ends of their band, calibrated where it can be."""
    bands, scale = bands_of(denoiser, settings), settings.strength / normal.gain
    arrays.put("calibrated", bands is not None)

    def sink(_: Array, draws: Array) -> None:
        for name, block in zip(BAND, spread(draws, bands, scale)[1:], strict=True):
            arrays.write(name, block)

    return sink


def spectrogram_sink(pictures: Spectrograms) -> Sink:
    """Draws spectrograms before, after and of what was removed."""

    def sink(noisy: Array, draws: Array) -> None:
        mean = draws.mean(axis=1)
        pictures.push(noisy, mean, noisy - mean)

    return sink


def _require_draws(uncertainty: Path | None, settings: Settings) -> None:
    if uncertainty is not None and settings.shots == 1:
        raise InputError("uncertainty needs several draws: pass shots (--shots), e.g. 8")


def _band_file(
    outputs: ExitStack, path: Path | None, form: Stored, force: bool
) -> ArraysWriter | None:
    """An NPZ for the deviation and ends of a band, which is there when the outputs are."""
    if path is None:
        return None
    arrays = outputs.enter_context(writing_npz(path, BAND, channels=form.channels, force=force))
    arrays.put("sample_rate", form.sample_rate)
    return arrays


def file_normal(denoiser: Denoiser, reader: Reader, settings: Settings, mix: Mix | None) -> Normal:
    """What brings the file to the denoiser's level, as it is given or found by a first pass."""
    given = given_normal(denoiser, settings.level)
    if given is not None:
        return given
    rate = model_or_given_rate(denoiser, reader.form.sample_rate)
    blocks = sound_blocks(reader, mix)
    return measured_normal(denoiser, blocks, rate, noise_std=settings.noise_std)


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
    name = reader.path if isinstance(reader, Reader) else "standard input"
    for block in reader.blocks():
        if np.abs(block).max(initial=0) > LARGEST:
            raise InputError(f"{name} holds samples over {LARGEST:g}: it is damaged")
        yield block if mix is None else mix(block)


def _table_normal(denoiser: Denoiser, reader: TableReader, settings: Settings) -> Normal:
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
