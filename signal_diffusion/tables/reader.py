"""Tables of readings: read in blocks, with their gaps filled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import regrouped
from signal_diffusion.dsp.gaps import Filler, with_missing
from signal_diffusion.errors import InputError
from signal_diffusion.tables.columns import (
    CONTAINERS,
    Block,
    Columns,
    Source,
    TableForm,
    container_of,
    distinct,
    listed,
    pick,
    time_column,
)
from signal_diffusion.tables.survey import Survey, survey
from signal_diffusion.tables.time import Clock

BLOCK = 1 << 16
#: Readings of all channels in one block, at most.
BLOCK_READINGS = 1 << 21


@dataclass(frozen=True)
class Scan:
    """What a pass through a table has shown.

    Attributes:
        rows: number of rows of the file.
        frames: number of rows with the missing ones.
        places, counts: places of rows before which others are missing, and how many.
        lacking: for each channel, number of missing readings, faults included.
        faults: for each channel, number of faults, and the row of the first one.
    """

    rows: int
    frames: int
    places: Array
    counts: Array
    lacking: tuple[int, ...]
    faults: tuple[tuple[int, int], ...]

    def kept(self, start: int, count: int) -> Array:
        """Which of the frames (count,) from the start on are rows of the file."""
        kept = np.ones(count, bool)
        begins = self.places + np.cumsum(self.counts) - self.counts
        first = int(np.searchsorted(begins + self.counts, start, side="right"))
        last = int(np.searchsorted(begins, start + count, side="left"))
        for begin, missing in zip(begins[first:last], self.counts[first:last], strict=True):
            kept[max(begin - start, 0) : max(begin + missing - start, 0)] = False
        return kept

    def missing(self, start: int, count: int) -> Array:
        """How many rows (count,) are missing before each row from the start on."""
        missing = np.zeros(count, np.int64)
        first, last = np.searchsorted(self.places, [start, start + count])
        missing[self.places[first:last] - start] = self.counts[first:last]
        return missing


class TableReader:
    """A table of readings in a file, of any length; `opened_table` makes one.

    Attributes:
        path: the file.
        form: its rate and its channels.
        source: the file as it is, gaps included.
        places: places of the channels in the source's columns.
        staying: why each of the other columns is none, by its place.
        clock: reads the time stamps; None if there are none or a rate was given.
    """

    def __init__(
        self,
        path: Path,
        container: str,
        source: Source,
        columns: Columns,
        domain: str | None = None,
    ) -> None:
        self.path, self.source = path, source
        self._time = time_column(source, columns)
        picked, self.staying = pick(source, columns, self._time)
        self.clock = self._clock() if columns.rate is None and self._time >= 0 else None
        rate = self.clock.rate if self.clock is not None else columns.rate or source.rate
        if rate is None:
            raise InputError(
                f"{path} does not tell its rate: pass rate=, in Hz (--rate), or name its time "
                f"column by time= (--time)"
            )
        self._survey = Survey({}, {}) if domain is None else survey(source, picked, domain)
        if columns.channels is None:
            self.staying |= self._survey.reasons
        self.places = tuple(at for at in picked if at not in self.staying)
        if not self.places:
            raise InputError(
                f"{path} has no column that looks like a signal ({self._reasons()}): name those "
                f"that are to be changed by channels= (--columns)"
            )
        every = distinct(source.names)
        names = tuple(every[at] for at in self.places)
        units = tuple(source.units[at] for at in self.places)
        self.form = TableForm(rate, len(names), container, names, units)
        self._scan: Scan | None = None

    @property
    def frames(self) -> int | None:
        """Rows with the missing ones; None if that takes a pass that has not been made."""
        if self._scan is not None:
            return self._scan.frames
        return self.source.length if self.clock is None else None

    def blocks(self, size: int = BLOCK) -> Iterator[Array]:
        """Readings (C, n) float64, n <= size, from the beginning on each call, gaps filled.

        A gap is filled linearly between its neighbours, at the ends by the nearest reading.

        Raises:
            InputError: a row can't be read, the time stamps are not regular, or a gap or channel
                has too few readings to be filled.
        """
        return (values for values, _ in self.marked(size))

    def gaps(self, size: int = BLOCK) -> Iterator[Array]:
        """Masks (C, n) of the readings that were filled, in step with `blocks`."""
        return (mask for _, mask in self.marked(size))

    def marked(self, size: int = BLOCK) -> Iterator[tuple[Array, Array]]:
        """The blocks with their masks."""
        size = max(1, min(size, BLOCK_READINGS // self.form.channels))
        return regrouped(self._filled(), size)

    def stamps(self) -> Iterator[Array]:
        """The time stamps (n,) of all rows, as the file holds them; none without a clock."""
        if self.clock is not None:
            for block in self.source.blocks([self._time]):
                yield np.asarray(block.columns[self._time])

    def readings(self, block: Block) -> Array:
        """The channels (C, n) of a block of the source, NaN where a reading is missing."""
        values = block.readings(self.places)
        return np.where(self._faults(values), np.nan, values)

    def _faults(self, values: Array) -> Array:
        """Which readings (C, n) lie beyond the limits of their channels."""
        limits = [self._survey.limits.get(at, (-np.inf, np.inf)) for at in self.places]
        low, high = np.transpose(limits)[..., None]
        return (values < low) | (values > high)

    def choice(self) -> str:
        """A line that names the columns that change and those that stay, with the reason."""
        line = f"columns that change: {listed(self.form.names, str)}"
        return f"{line}; that stay: {self._reasons()}" if self.staying else line

    def notes(self) -> list[str]:
        """Lines about faults, and readings that were filled."""
        scan, form = self.scan(), self.form
        found = []
        for name, (count, row) in zip(form.names, scan.faults, strict=True):
            if count:
                several = f"{count} readings, from row {row} on, stand"
                one = f"the reading of row {row} stands"
                found.append(
                    f"{name}: {several if count > 1 else one} out by orders of magnitude: taken as "
                    "missing"
                )
        lacking = [
            f"{count} of {name}"
            for name, count in zip(form.names, scan.lacking, strict=True)
            if count
        ]
        return [*found, *([f"missing readings filled: {', '.join(lacking)}"] if lacking else [])]

    def _reasons(self) -> str:
        every = distinct(self.source.names)
        return listed([f"{every[at]} ({self.staying[at]})" for at in sorted(self.staying)], str)

    def scan(self) -> Scan:
        """What a pass through the file shows; made now unless one was made before."""
        if self._scan is None:
            for _ in self._filled():
                pass
        assert self._scan is not None
        return self._scan

    def _clock(self) -> Clock:
        at, source = self._time, self.source
        head = next(source.blocks([at]), None)
        self._require_rows(0 if head is None else len(head))
        assert head is not None
        stamps = np.asarray(head.columns[at])
        return Clock(self.path, stamps, source.names[at], source.units[at], first=source.first)

    def _filled(self) -> Iterator[tuple[Array, Array]]:
        filler = Filler(str(self.path), self.form.names)
        for values in self._rows() if self._scan is None else self._rows_again(self._scan):
            yield filler.push(values)
        yield filler.flush()

    def _rows(self) -> Iterator[Array]:
        """The first pass, which reads the time stamps."""
        rows = 0
        places, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        lacking = np.zeros(self.form.channels, np.int64)
        faults, first = np.zeros_like(lacking), np.zeros_like(lacking)
        clock = None if self.clock is None else self.clock.anew()
        wanted = self.places if clock is None else (*self.places, self._time)
        for block in self.source.blocks(wanted):
            values, missing = block.readings(self.places), np.zeros(len(block), np.int64)
            self._require_finite(values, rows)
            fault = self._faults(values)
            new = fault.any(axis=1) & (faults == 0)
            first = np.where(new, self.source.first + rows + fault.argmax(axis=1), first)
            faults += fault.sum(axis=1)
            values = np.where(fault, np.nan, values)
            lacking += np.isnan(values).sum(axis=1)
            if clock is not None:
                missing = clock.missing(np.asarray(block.columns[self._time]))
            places.append(rows + np.flatnonzero(missing))
            counts.append(missing[missing > 0])
            rows += len(block)
            yield with_missing(values, missing)
        self._require_rows(rows)
        every = np.concatenate(counts)
        self._scan = Scan(
            rows,
            frames=rows + int(every.sum()),
            places=np.concatenate(places),
            counts=every,
            lacking=tuple(lacking.tolist()),
            faults=tuple(zip(faults.tolist(), first.tolist(), strict=True)),
        )

    def _rows_again(self, scan: Scan) -> Iterator[Array]:
        for block in self.source.blocks(self.places):
            yield with_missing(self.readings(block), scan.missing(block.start, len(block)))

    def _require_finite(self, values: Array, rows: int) -> None:
        endless = np.isinf(values)
        if endless.any():
            channel, row = np.argwhere(endless)[0]
            raise InputError(
                f"{self.path}, column '{self.form.names[channel]}': reading {rows + row + 1} is "
                f"infinite: replace it by a number, or by NaN to have it filled"
            )

    def _require_rows(self, rows: int) -> None:
        if rows < 2:
            count = "no rows" if rows == 0 else "one row only"
            raise InputError(f"{self.path} holds {count}: there is nothing to process")


def is_table(path: str | Path) -> bool:
    """Whether a path is that of a table of readings, by its suffix, or the name of a WFDB record.

    >>> is_table("a.csv"), is_table("a.wav")
    (True, False)
    """
    return container_of(Path(path)) is not None


@contextmanager
def opened_table(
    path: str | Path, columns: Columns = Columns(), *, domain: str | None = None
) -> Iterator[TableReader]:
    """Open a table of readings: CSV, TSV, Parquet, NPY, NPZ or WFDB.

    Args:
        path: the file; of a WFDB record also its name without a suffix.
        columns: which columns to take and how to read them, where that is not to be found.
        domain: of the model that is to change the readings, "" for a model of any. Columns that
            are no signals for it are then no channels unless they are named, and readings that
            stand out by orders of magnitude are missing ones; see `survey`. None takes all
            columns of numbers as they are.

    Raises:
        InputError: there is no such file, it is no table, or it does not have what was named.
    """
    path = Path(path)
    container = container_of(path)
    if container is None:
        allowed = ", ".join(CONTAINERS)
        raise InputError(f"{path} is no table of readings: its suffix must be one of {allowed}")
    if container != "WFDB":
        _require_file(path)
    yield TableReader(path, container, _source(path, container, columns), columns, domain)


def _source(path: Path, container: str, columns: Columns) -> Source:
    # Imported here, since each of them stands on a library of its own.
    if container == "CSV":
        from signal_diffusion.tables.csv_files import CsvSource

        return CsvSource(path, columns)
    if container == "PARQUET":
        from signal_diffusion.tables.parquet_files import ParquetSource

        return ParquetSource(path)
    if container == "WFDB":
        from signal_diffusion.tables.wfdb_files import WfdbSource

        return WfdbSource(path)
    from signal_diffusion.tables.numpy_files import NumpySource

    return NumpySource(path)


def _require_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path} is empty (0 bytes)")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
