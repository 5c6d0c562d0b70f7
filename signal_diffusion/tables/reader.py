"""Tables of readings: read in blocks, with their gaps filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.gaps import Filler, regrouped, with_missing
from signal_diffusion.errors import InputError
from signal_diffusion.tables.base import Source
from signal_diffusion.tables.columns import CONTAINERS, Choice, TableForm, container_of

BLOCK = 1 << 16
#: Of all channels, handed out at once.
BLOCK_READINGS = 1 << 21


@dataclass(frozen=True)
class Scan:
    """What a pass through a table has shown.

    Attributes:
        rows: of the file.
        frames: rows with those that are missing.
        places, counts: before which rows how many are missing.
        holed: for each channel, whether the file lacks some of its readings.
    """

    rows: int
    frames: int
    places: Array
    counts: Array
    holed: tuple[bool, ...]

    def kept(self, start: int, count: int) -> Array:
        """Which of the frames (count,) from the start on are rows of the file."""
        kept = np.ones(count, bool)
        begins = self.places + np.cumsum(self.counts) - self.counts
        first = int(np.searchsorted(begins + self.counts, start, side="right"))
        last = int(np.searchsorted(begins, start + count, side="left"))
        for begin, missing in zip(begins[first:last], self.counts[first:last], strict=True):
            kept[max(begin - start, 0) : max(begin + missing - start, 0)] = False
        return kept


class TableReader:
    """A table of readings in a file, of any length; `opened_table` makes one.

    Attributes:
        path: the file.
        form: its rate and its channels.
        source: the file as it is, gaps and all.
    """

    def __init__(self, path: Path, container: str, source: Source) -> None:
        self.path, self.source = path, source
        rate = source.clock.rate if source.clock is not None else source.rate
        if rate is None:
            raise InputError(
                f"{path} does not tell its rate: pass rate=, in Hz (--rate), or name its time "
                f"column by time= (--time)"
            )
        self.form = TableForm(rate, len(source.names), container, source.names, source.units)
        self._scan: Scan | None = None

    @property
    def frames(self) -> int | None:
        """Rows with the missing ones; None if that takes a pass that has not been made."""
        if self._scan is not None:
            return self._scan.frames
        return self.source.length if self.source.clock is None else None

    def blocks(self, size: int = BLOCK) -> Iterator[Array]:
        """Readings (C, n) float64, n <= size, from the beginning on each call, gaps filled.

        A gap is filled linearly between its neighbours, at the ends by the nearest reading.

        Raises:
            InputError: a row can't be read, the time stamps are not regular, or a gap or channel
                has too few readings to be filled.
        """
        return (values for values, _ in self.marked(size))

    def gaps(self, size: int = BLOCK) -> Iterator[Array]:
        """Masks (C, n) of what was filled, in step with `blocks`."""
        return (mask for _, mask in self.marked(size))

    def scan(self) -> Scan:
        """What a pass through the file shows; made now unless one was made before."""
        if self._scan is None:
            for _ in self._filled():
                pass
        assert self._scan is not None
        return self._scan

    def marked(self, size: int = BLOCK) -> Iterator[tuple[Array, Array]]:
        """The blocks with their masks."""
        size = max(1, min(size, BLOCK_READINGS // self.form.channels))
        return regrouped(self._filled(), size)

    def _filled(self) -> Iterator[tuple[Array, Array]]:
        filler = Filler(str(self.path), self.form.names)
        for values in self._whole() if self._scan is None else self._again(self._scan):
            yield filler.push(values)
        yield filler.flush()

    def _whole(self) -> Iterator[Array]:
        """The first pass, which looks at the time stamps."""
        rows = 0
        places, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        holed = np.zeros(self.form.channels, bool)
        clock = None if self.source.clock is None else self.source.clock.anew()
        for piece in self.source.pieces(stamps=clock is not None):
            self._require_finite(piece.values, rows)
            holed |= np.isnan(piece.values).any(axis=1)
            missing = np.zeros(piece.values.shape[1], np.int64)
            if clock is not None and piece.stamps is not None:
                missing = clock.missing(piece.stamps)
            places.append(rows + np.flatnonzero(missing))
            counts.append(missing[missing > 0])
            rows += len(missing)
            yield with_missing(piece.values, missing)
        self._require_rows(rows)
        every = np.concatenate(counts)
        frames = rows + int(every.sum())
        self._scan = Scan(rows, frames, np.concatenate(places), every, tuple(holed.tolist()))

    def _again(self, scan: Scan) -> Iterator[Array]:
        rows = 0
        for piece in self.source.pieces():
            missing = np.zeros(piece.values.shape[1], np.int64)
            first, last = np.searchsorted(scan.places, [rows, rows + len(missing)])
            missing[scan.places[first:last] - rows] = scan.counts[first:last]
            rows += len(missing)
            yield with_missing(piece.values, missing)

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
    path: str | Path,
    *,
    rate: float | None = None,
    channels: Sequence[str] | None = None,
    time: str | None = None,
    delimiter: str | None = None,
    skip: Sequence[str] = (),
) -> Iterator[TableReader]:
    """Open a table of readings: CSV, TSV, Parquet, NPY, NPZ or WFDB.

    Args:
        path: the file; of a WFDB record also its name without a suffix.
        rate: rows per second, Hz, where the file does not tell it; the time stamps are then not
            looked at.
        channels: names of the columns to take; None takes all of numbers but the time and the
            count of rows. In files without names they are called "1", "2" and so on.
        time: name of the time column, where it is not found.
        delimiter: between the fields of a text file, where it is not found.
        skip: names of columns of numbers that are no signals and stay as they are.

    Raises:
        InputError: there is no such file, it is no table, or it does not have what was named.
    """
    path, choice = Path(path), Choice(rate, channels, time, delimiter, skip)
    container = container_of(path)
    if container is None:
        known = ", ".join(CONTAINERS)
        raise InputError(f"{path} is no table of readings: its suffix must be one of {known}")
    if container != "WFDB":
        _require_file(path)
    yield TableReader(path, container, _source(path, container, choice))


def _source(path: Path, container: str, choice: Choice) -> Source:
    # Imported here, since each of them stands on a library of its own.
    if container == "CSV":
        from signal_diffusion.tables.csv_files import CsvSource

        return CsvSource(path, choice)
    if container == "PARQUET":
        from signal_diffusion.tables.parquet_files import ParquetSource

        return ParquetSource(path, choice)
    if container == "WFDB":
        from signal_diffusion.tables.wfdb_files import WfdbSource

        return WfdbSource(path, choice)
    from signal_diffusion.tables.numpy_files import NumpySource

    return NumpySource(path, choice)


def _require_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path} is empty (0 bytes)")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
