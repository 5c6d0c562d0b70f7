"""What every container of tables offers: a source of blocks, and a sink that takes those of any."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError, install
from signal_diffusion.tables.columns import FILLED, TableForm, distinct

#: Rows of a block from a binary file; even, since a format of WFDB packs two numbers at a time.
ROWS = 1 << 16
#: The column of seconds that is added to a table without time stamps in a new container.
TIME = "time (s)"


@dataclass(frozen=True)
class Block:
    """Some rows of a table, from any container.

    Attributes:
        start: number of rows before them in the table.
        columns: by their places in the source's names. Each is an array (n,) of numbers, texts or
            time stamps, or an object that keeps more and that `numpy.asarray` turns into one.
    """

    start: int
    columns: dict[int, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def readings(self, places: Sequence[int]) -> Array:
        """Columns of numbers (C, n) float64, NaN where one is missing."""
        return np.stack([np.asarray(self.columns[at], np.float64) for at in places])


class Source(Protocol):
    """A table in a file.

    Attributes:
        path: the file.
        names, units: names and units of all columns, "" for an unknown unit.
        numeric: which of the columns hold numbers.
        texts: for the places of columns of texts that look like numbers, why they are none.
        temporal: which columns have the form of time stamps; None if the container has no stamps.
        rate: sample rate in Hz, None if the file does not hold it.
        length: number of rows, None if counting them takes a pass.
        first: number of the first row in the file, for messages.
    """

    path: Path
    names: tuple[str, ...]
    units: tuple[str, ...]
    numeric: tuple[bool, ...]
    texts: Mapping[int, str] = MappingProxyType({})
    temporal: tuple[bool, ...] | None = None
    rate: float | None = None
    length: int | None = None
    first: int = 1

    def blocks(self, places: Collection[int] | None = None) -> Iterator[Block]:
        """All rows from the beginning on.

        Args:
            places: places of the columns that are needed; None for all of them.
        """
        ...


class Sink(Protocol):
    """A table that is being written, from the blocks of any source.

    Attributes:
        note: what could not be written as it came, complete at the end.
    """

    note: str | None

    def put(self, block: Block, before: Array, after: Array) -> None:
        """Append the rows of a block, in whose channels (C, n) new readings replace others."""
        ...

    def finish(self) -> list[tuple[Path, Path]]:
        """Complete the files; returns pairs of a file and its final name, in order."""
        ...


@dataclass(frozen=True)
class Contents:
    """What a written table holds.

    Attributes:
        source: the table as it came.
        form: its rate and channels.
        places: places of the channels in the source's names.
        marked: the channels that get a column which marks their filled readings.
        rows: number of rows.
        timed: whether one of its columns holds the time.
    """

    source: Source
    form: TableForm
    places: tuple[int, ...]
    marked: tuple[int, ...]
    rows: int
    timed: bool

    @property
    def mark_names(self) -> list[str]:
        """Names of the columns that mark filled readings."""
        return [f"{self.form.names[channel]}{FILLED}" for channel in self.marked]

    def marks(self, before: Array) -> Array:
        """The columns (marked, n) of marks, uint8, from the readings (C, n) as they came."""
        return np.isnan(before[list(self.marked)]).astype(np.uint8)

    def arrays(self, block: Block, before: Array, after: Array) -> dict[str, Array]:
        """All columns by name, for another container, with new readings and marks."""
        names = distinct(self.source.names)
        new = dict(zip(self.places, after, strict=True))
        found = {} if self.timed or TIME in names else {TIME: self._seconds(block)}
        for at, column in block.columns.items():
            found[names[at]] = new[at] if at in new else np.asarray(column)
        return {**found, **dict(zip(self.mark_names, self.marks(before), strict=True))}

    def _seconds(self, block: Block) -> Array:
        return (block.start + np.arange(len(block))) / self.form.sample_rate


def changed(after: Array, before: Array) -> Array:
    """Which readings are new; one that is still missing is not."""
    return (after != before) & ~(np.isnan(after) & np.isnan(before))


def library(name: str, path: Path) -> Any:
    """A library of the extra `sensors`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(f"{path} needs the package {package}: {install('sensors')}") from error
