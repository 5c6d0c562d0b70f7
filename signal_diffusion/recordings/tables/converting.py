"""Tables of one container written in another."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.recordings.partials import beside, failures
from signal_diffusion.recordings.tables.libraries import library
from signal_diffusion.recordings.tables.reader import TableReader
from signal_diffusion.recordings.tables.sources import Piece, Sink
from signal_diffusion.recordings.tables.wfdb_target import converting_to_wfdb

Array = NDArray[Any]
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
