"""Recordings of any container as arrays: sound, or tables of readings with their gaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from signal_diffusion.audio import opened, read
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.tables import is_table, opened_table
from signal_diffusion.tables.columns import Columns

#: Relative difference of rates that time stamps, which are rounded, may make.
SAME_RATE = 1e-3


@dataclass(frozen=True)
class Readings:
    """What a file holds.

    Attributes:
        path: the file.
        samples: (C, L), in physical units, gaps filled in between their neighbours.
        sample_rate: Hz.
        missing: (C, L), true where a gap was filled; None where there is none.
        names: of the channels of a table; sound has none.
    """

    path: Path
    samples: Array
    sample_rate: float
    missing: Array | None = None
    names: tuple[str, ...] = ()

    @property
    def table(self) -> bool:
        return bool(self.names)

    def first(self, count: int) -> Readings:
        """The first samples."""
        missing = None if self.missing is None else self.missing[:, :count]
        return replace(self, samples=self.samples[:, :count], missing=missing)


@dataclass(frozen=True)
class Sound:
    """A noisy recording and its clean one, each (C, L) at `sample_rate` Hz.

    Attributes:
        noisy, clean: of tables in physical units, gaps filled in.
        missing: (C, L), true where the noisy one has a gap; None where it has none.
        unscored: (C, L), true where either has a gap; None where neither has one.
    """

    noisy: Array
    clean: Array
    sample_rate: float
    missing: Array | None = None
    unscored: Array | None = None

    @property
    def seconds(self) -> float:
        return self.clean.shape[1] / self.sample_rate

    def require_form(self, what: str, made: Readings) -> None:
        """Raise an InputError unless an estimate has this form, and all readings that count."""
        wanted, found = self.clean.shape, made.samples.shape
        if found != wanted or not is_same_rate(made.sample_rate, self.sample_rate):
            forms = [
                "{:.12g} Hz, {} channels, {} samples".format(rate, *shape)
                for rate, shape in ((made.sample_rate, found), (self.sample_rate, wanted))
            ]
            raise InputError(f"{what}: the estimate has {forms[0]}, but the recording {forms[1]}")
        if made.missing is not None:
            scored = made.missing if self.unscored is None else made.missing & ~self.unscored
            if lost := int(scored.sum()):
                raise InputError(f"{what}: the estimate lacks {lost} readings that are scored")


def read_readings(path: Path, columns: Columns = Columns()) -> Readings:
    """Everything that a file of sound or a table of readings holds.

    Args:
        path: the file; of a WFDB record its header.
        columns: how tables are read, see `opened_table`.

    Raises:
        InputError: the file can't be read.
    """
    if not is_table(path):
        held = read(path)
        return Readings(path, held.samples, held.sample_rate)
    with opened_table(path, columns) as reader:
        values, masks = (np.concatenate(x, axis=1) for x in zip(*reader.marked(), strict=True))
        form = reader.form
    return Readings(path, values, form.sample_rate, masks if masks.any() else None, form.names)


def shape_of(path: Path, columns: Columns = Columns()) -> tuple[float, int, int | None]:
    """A file's rate in Hz, channels and, where that takes no pass through it, samples.

    Raises:
        InputError: the file can't be read.
    """
    if is_table(path):
        with opened_table(path, columns) as table:
            return table.form.sample_rate, table.form.channels, table.frames
    with opened(path) as sound:
        return sound.form.sample_rate, sound.form.channels, sound.frames


def require_alike(first: Path, second: Path, *, columns: Columns = Columns()) -> None:
    """Raise an InputError unless two files have one rate, number of channels and length.

    The length of a table counts once it is read, where telling it takes a pass through the file.
    """
    shapes = [shape_of(path, columns) for path in (first, second)]
    rates, channels, samples = zip(*shapes, strict=True)
    if not is_same_rate(*rates):
        raise unlike(first, second, "Hz", rates)
    if channels[0] != channels[1]:
        raise unlike(first, second, "channels", channels)
    if None not in samples and samples[0] != samples[1]:
        raise unlike(first, second, "samples", samples)


def unlike(first: Path, second: Path, what: str, found: Sequence[float | None]) -> InputError:
    """The error of two files that differ in what is counted."""
    one, other = (f"{value:.12g}" for value in found)
    return InputError(f"{second} has {other} {what}, but {first} has {one}: make both the same")


def is_same_rate(one: float, other: float) -> bool:
    """Whether two rates in Hz are one: those of tables may differ a little, as stamps are rounded.

    >>> is_same_rate(360.0, 359.99), is_same_rate(16000, 16001)
    (True, False)
    """
    whole = isinstance(one, int) and isinstance(other, int)
    return one == other if whole else math.isclose(one, other, rel_tol=SAME_RATE)
