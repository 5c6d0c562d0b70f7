"""Tables of readings written again, with new readings and all else as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import Buffer
from signal_diffusion.files.atomic import failures, publish, require_writable
from signal_diffusion.tables.columns import (
    FILLED,
    Block,
    Source,
    TableForm,
    distinct,
    output_file,
)
from signal_diffusion.tables.reader import TableReader

#: The column of seconds that is added to a table without time stamps in a new container.
TIME = "time (s)"


class Sink(Protocol):
    """A table that is being written, from the blocks of any source.

    Attributes:
        note: what could not be written as it came, complete at the end.
        files: pairs of a file that is being written and its final name, in the order in which
            they get it.
    """

    note: str | None
    files: list[tuple[Path, Path]]

    def put(self, block: Block, before: Array, after: Array) -> None:
        """Append the rows of a block, in whose channels (C, n) new readings replace others."""
        ...

    def finish(self) -> None:
        """Complete the files."""
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


class TableWriter:
    """A table that is being written; `writing_table` makes one.

    Attributes:
        path: where it will appear.
        frames: how many have been written, those of missing rows included.
    """

    def __init__(
        self, path: Path, reader: TableReader, *, files: ExitStack, mask: bool, force: bool
    ) -> None:
        self._container, self.path = output_file(path, reader.form)
        self.frames = 0
        self._reader, self._files, self._mask, self._force = reader, files, mask, force
        self._sink: Sink | None = None
        self._waiting = Buffer()
        self._next: Block | None = None

    @property
    def note(self) -> str | None:
        """What could not be written as it came, complete at the end."""
        return None if self._sink is None else self._sink.note

    def write(self, samples: Array) -> None:
        """Append readings (C, n) of the next frames; those of missing rows are left out.

        Raises:
            InputError: the disk is full, or the container can't hold them.
        """
        if self._sink is None:
            self._begin()
        kept = self._reader.scan().kept(self.frames, samples.shape[1])
        self.frames += samples.shape[1]
        self._waiting.push(np.asarray(samples, np.float64)[:, kept])
        while self._next is not None and len(self._waiting) >= len(self._next):
            self._put(self._next)

    def finish(self) -> None:
        """Complete the table and give it its name; `writing_table` does so at its end."""
        if self._sink is None or self._next is not None or len(self._waiting):
            raise ValueError(f"{self.frames} frames were written, not those of the whole table")
        with failures(self.path):
            self._sink.finish()
        for partial, final in self._sink.files:
            publish(partial, final, force=self._force)

    def _begin(self) -> None:
        # Only now, since by now a first pass may have shown which channels lack readings.
        reader, scan = self._reader, self._reader.scan()
        marked = tuple(at for at, count in enumerate(scan.lacking) if count and self._mask)
        timed = reader.clock is not None
        contents = Contents(
            reader.source, reader.form, reader.places, marked=marked, rows=scan.rows, timed=timed
        )
        with failures(self.path):
            self._sink = _sink(self._container, self.path, contents, self._files)
        for _, final in self._sink.files:
            require_writable(final, force=self._force)
        self._blocks = reader.source.blocks()
        self._next = next(self._blocks, None)

    def _put(self, block: Block) -> None:
        assert self._sink is not None
        before, after = self._reader.readings(block), self._waiting.take(len(block))
        with failures(self.path):
            self._sink.put(block, before, after)
        self._next = next(self._blocks, None)


@contextmanager
def writing_table(
    path: str | Path, reader: TableReader, *, force: bool = False, mask: bool = True
) -> Iterator[TableWriter]:
    """Write a table again, with new readings; it appears once the block ends without an error.

    Columns that are no channels, readings that stay the same, names, units, time stamps and the
    count of rows stay as they are. A suffix of another container converts the table: CSV and
    Parquet then get all columns, and one of seconds where it has no time stamps; NPY, NPZ and WFDB
    get the channels.

    Args:
        path: output file.
        reader: the table as it came.
        force: replace a file that exists.
        mask: add a column NAME_filled, 1 where a reading was missing and 0 elsewhere, for each
            channel that lacked some.

    Raises:
        InputError: the file exists, or the folder or disk can't take it.
    """
    with ExitStack() as files:
        writer = TableWriter(Path(path), reader, files=files, mask=mask, force=force)
        require_writable(writer.path, force=force)
        yield writer
        writer.finish()


def _sink(container: str, path: Path, contents: Contents, files: ExitStack) -> Sink:
    # Imported here, since each of them stands on a library of its own.
    if container == "CSV":
        from signal_diffusion.tables.csv_files import CsvSink

        return CsvSink(path, contents, files)
    if container == "PARQUET":
        from signal_diffusion.tables.parquet_files import ParquetSink

        return ParquetSink(path, contents, files)
    if container == "WFDB":
        from signal_diffusion.tables.wfdb_files import WfdbSink

        return WfdbSink(path, contents, files)
    from signal_diffusion.tables.numpy_files import NumpySink

    return NumpySink(path, contents, files)
