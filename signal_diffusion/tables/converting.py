"""Tables of one container written in another."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.files.atomic import beside, failures
from signal_diffusion.tables.base import Piece, Sink, library
from signal_diffusion.tables.reader import TableReader
from signal_diffusion.tables.wfdb_files import SampleFile, checksum, record_of

Columns = dict[str, Any]


TIME = "time (s)"


@contextmanager
def converting(
    path: Path, container: str, reader: TableReader, filled: tuple[int, ...]
) -> Iterator[Sink]:
    """Write a table in another container; see `Sink`.

    CSV and Parquet get all columns, and one of seconds where the table has no time stamps; NPY, NPZ
    and WFDB get the channels.
    """
    if container == "CSV":
        kind: Callable[..., Sink] = CsvTarget
    else:
        kind = ParquetTarget if container == "PARQUET" else ArrayTarget
    if container == "WFDB":
        with converting_to_wfdb(path, reader, filled) as sink:
            yield sink
        return
    with beside(path) as partial, failures(path):
        yield kind(path, partial, reader, filled)


class Table:
    """All columns of the pieces of a table, with new readings, and masks of those filled."""

    def __init__(self, reader: TableReader, filled: tuple[int, ...]) -> None:
        self._reader, self._filled, self._rows = reader, filled, 0

    def of(self, piece: Piece, values: Array) -> Columns:
        """The columns of the next piece."""
        source, form = self._reader.source, self._reader.form
        columns = source.columns(piece)
        if source.clock is None and TIME not in columns:
            count = values.shape[1]
            seconds = (self._rows + np.arange(count)) / form.sample_rate
            columns, self._rows = {TIME: seconds, **columns}, self._rows + count
        columns.update(zip(source.names, values, strict=True))
        for at in self._filled:
            columns[f"{source.names[at]}_filled"] = np.isnan(piece.values[at]).astype(np.uint8)
        return columns


class CsvTarget:
    """A text table from another container; see `Sink`."""

    def __init__(
        self, path: Path, partial: Path, reader: TableReader, filled: tuple[int, ...]
    ) -> None:
        self.note: str | None = None
        self._path, self._partial, self._table = path, partial, Table(reader, filled)
        self._sign = "," if path.suffix.lower() == ".csv" else "\t"
        self._begun = False

    def put(self, piece: Piece, values: Array) -> None:
        """Append the rows of a piece."""
        import pandas as pd

        frame = pd.DataFrame(self._table.of(piece, values))
        frame.to_csv(
            self._partial, sep=self._sign, header=not self._begun, index=False, mode="a",
            encoding="utf-8", lineterminator="\n",
        )  # fmt: skip
        self._begun = True

    def finish(self) -> list[tuple[Path, Path]]:
        """Complete the file."""
        return [(self._partial, self._path)]


class ParquetTarget:
    """A Parquet file from another container; see `Sink`."""

    def __init__(
        self, path: Path, partial: Path, reader: TableReader, filled: tuple[int, ...]
    ) -> None:
        self.note: str | None = None
        self._path, self._partial, self._table = path, partial, Table(reader, filled)
        self._units = dict(zip(reader.form.names, reader.form.units, strict=True))
        self._pa, self._parquet = library("pyarrow", path), library("pyarrow.parquet", path)
        self._writer: Any = None

    def put(self, piece: Piece, values: Array) -> None:
        """Append the rows of a piece."""
        table = self._pa.table(self._table.of(piece, values))
        if self._writer is None:
            fields = [
                field.with_metadata({"unit": unit})
                if (unit := self._units.get(field.name))
                else field
                for field in table.schema
            ]
            self._schema = self._pa.schema(fields)
            self._writer = self._parquet.ParquetWriter(self._partial, self._schema)
        self._writer.write_table(table.cast(self._schema))

    def finish(self) -> list[tuple[Path, Path]]:
        """Complete the file."""
        self._writer.close()
        return [(self._partial, self._path)]


class ArrayTarget:
    """An NPY or NPZ file from another container; see `Sink`.

    NPY holds the channels as (L, C), NPZ each one by its name, and `sample_rate`.
    """

    def __init__(
        self, path: Path, partial: Path, reader: TableReader, filled: tuple[int, ...]
    ) -> None:
        self._path, self._partial, self._reader, self._filled = path, partial, reader, filled
        self._single = path.suffix.lower() == ".npy"
        self.note: str | None = f"{path} holds the channels alone" if self._single else None
        self._folder = tempfile.TemporaryDirectory(dir=path.parent)
        shape = (reader.scan().rows, reader.form.channels)
        file = partial if self._single else Path(self._folder.name, "channels.npy")
        self._values = np.lib.format.open_memmap(file, "w+", np.float64, shape)
        self._masks = np.zeros((len(filled), shape[0]), np.uint8)
        self._rows = 0

    def put(self, piece: Piece, values: Array) -> None:
        """Append the rows of a piece."""
        rows = slice(self._rows, self._rows + values.shape[1])
        self._values[rows] = values.T
        self._masks[:, rows] = np.isnan(piece.values[list(self._filled)])
        self._rows = rows.stop

    def finish(self) -> list[tuple[Path, Path]]:
        """Complete the file."""
        self._values.flush()
        if not self._single:
            form = self._reader.form
            arrays: Columns = dict(zip(form.names, self._values.T, strict=True))
            for at, mask in zip(self._filled, self._masks, strict=True):
                arrays[f"{form.names[at]}_filled"] = mask
            arrays["sample_rate"] = np.asarray(form.sample_rate)
            save_arrays(self._partial, arrays)
        self._folder.cleanup()
        return [(self._partial, self._path)]


def save_arrays(path: Path, arrays: Columns) -> None:
    """Write arrays of any names to an NPZ file."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array)


#: Steps from zero to the largest reading, in 32 bits.
STEPS = (1 << 31) - 2


ROWS = 1 << 16


@contextmanager
def converting_to_wfdb(path: Path, reader: TableReader, filled: tuple[int, ...]) -> Iterator[Sink]:
    """Write the channels of a table as a WFDB record in physical units; see `Sink`."""
    with ExitStack() as files, failures(path):
        yield RecordTarget(record_of(path), reader, filled, files)


class RecordTarget:
    """A record of whole numbers of 32 bits, whose scale is known at the end; see `Sink`."""

    def __init__(
        self, record: Path, reader: TableReader, filled: tuple[int, ...], files: ExitStack
    ) -> None:
        self.note: str | None = f"{record}.hea holds the channels alone, in steps of 32 bits"
        self._record, self._reader, self._filled, self._files = record, reader, filled, files
        rows = reader.scan().rows
        self._flags = np.zeros((rows, len(filled)), np.float64)
        file = Path(files.enter_context(tempfile.TemporaryDirectory()), "values")
        self._values = np.memmap(file, np.float64, "w+", shape=(rows, reader.form.channels))
        self._rows = 0

    def put(self, piece: Piece, values: Array) -> None:
        """Append the rows of a piece."""
        rows = slice(self._rows, self._rows + values.shape[1])
        self._values[rows] = values.T
        self._flags[rows] = np.isnan(piece.values[list(self._filled)]).T
        self._rows = rows.stop

    def finish(self) -> list[tuple[Path, Path]]:
        """Write the numbers and the header."""
        form, name = self._reader.form, self._record.name
        peaks = np.abs(self._values).max(axis=0)
        gains = [float(f"{STEPS / peak:.6g}") * (1 - 1e-5) if peak else 1.0 for peak in peaks]
        units = [re.sub(r"\s", "_", unit) or "NU" for unit in form.units]
        lines, data = self._file(f"{name}.dat", "32", self._values, gains, list(form.names), units)
        if self._filled:
            names = [f"{form.names[at]}_filled" for at in self._filled]
            ones, none = [1.0] * len(names), ["NU"] * len(names)
            more, flags = self._file(f"{name}_filled.dat", "16", self._flags, ones, names, none)
            lines, data = lines + more, data + flags
        header = self._record.with_name(f"{name}.hea")
        partial = self._files.enter_context(beside(header))
        first = f"{name} {len(lines)} {form.sample_rate:.10g} {self._rows}\n"
        partial.write_text(first + "".join(lines), encoding="utf-8")
        return [*data, (partial, header)]

    def _file(
        self, name: str, kind: str, values: Array, gains: list[float], names: list[str],
        units: list[str],
    ) -> tuple[list[str], list[tuple[Path, Path]]]:  # fmt: skip
        """Write a file of numbers; the header's lines of it, and what is to be renamed."""
        file = SampleFile(self._files, self._record.with_name(name), kind)
        sums, first = np.zeros(len(names), np.int64), None
        for start in range(0, len(values), ROWS):
            part = np.rint(values[start : start + ROWS] * np.array(gains)).astype(np.int64)
            file.append(part)
            first = part[0] if first is None else first
            sums += part.sum(axis=0)
        assert first is not None
        columns = zip(gains, units, first, sums, names, strict=True)
        lines = [
            f"{name} {kind} {gain!r}(0)/{unit} {kind} 0 {begin} {checksum(int(total), 0)} 0 {own}\n"
            for gain, unit, begin, total, own in columns
        ]
        return lines, [(file.partial, file.path)]
