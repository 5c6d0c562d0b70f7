"""Tables in Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import beside, failures
from signal_diffusion.tables.base import Piece, Sink, changed, library
from signal_diffusion.tables.columns import Choice, pick, time_column, unit_of
from signal_diffusion.tables.time import Clock

ROWS = 1 << 16


class ParquetSource:
    """A table in a Parquet file; see `Source`."""

    def __init__(self, path: Path, choice: Choice) -> None:
        self.path = path
        self._pa, self._parquet = library("pyarrow", path), library("pyarrow.parquet", path)
        with self._damage(), self._opened() as file:
            self.schema = file.schema_arrow
            self.length: int | None = file.metadata.num_rows
            self.compression = _compression(file.metadata)
        types, names = self._pa.types, self.schema.names
        numeric = [types.is_integer(kind) or types.is_floating(kind) for kind in self.schema.types]
        temporal = [types.is_temporal(kind) for kind in self.schema.types]
        time = time_column(path, names, temporal, choice)
        picked = sorted(pick(path, names, numeric, choice, time))
        self.names = tuple(names[at] for at in picked)
        self.units = tuple(self._unit(at) for at in picked)
        self._time = None if time < 0 else names[time]
        self.rate = choice.rate
        timed = time >= 0 and choice.rate is None
        self.clock: Clock | None = self._clock(self._unit(time)) if timed else None

    def pieces(self, *, stamps: bool = False, whole: bool = False) -> Iterator[Piece]:
        """All rows from the beginning on; see `Source`."""
        columns = None if whole else [*self.names, *([self._time] if stamps else [])]
        with self._damage(), self._opened() as file:
            for batch in file.iter_batches(ROWS, columns=columns):
                values = [_floats(batch.column(name)) for name in self.names]
                held = self._stamps(batch.column(self._time)) if stamps else None
                yield Piece(np.stack(values), held, batch)

    def columns(self, piece: Piece) -> dict[str, Any]:
        """All columns of a whole piece, by name."""
        return {
            name: piece.rows.column(name).to_numpy(zero_copy_only=False)
            for name in self.schema.names
        }

    @contextmanager
    def rewriting(self, path: Path, filled: tuple[int, ...]) -> Iterator[Sink]:
        """Write the table again; see `Sink`."""
        with beside(path) as partial, beside(path) as other, failures(path):
            yield ParquetSink(self, path, partial, other, filled)

    def _opened(self) -> Any:
        return self._parquet.ParquetFile(self.path)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (self._pa.ArrowException, OSError, UnicodeDecodeError) as error:
            why = " ".join(str(error).split()).rstrip(".")
            raise InputError(f"{self.path} is no Parquet file or is damaged ({why})") from error

    def _clock(self, unit: str) -> Clock:
        with self._damage(), self._opened() as file:
            batch = next(file.iter_batches(ROWS, columns=[self._time]), None)
        if batch is None or len(batch) < 2:
            raise InputError(
                f"{self.path} holds {self.length} rows: its time stamps give no rate, pass rate= "
                f"(--rate)"
            )
        return Clock(self.path, self._stamps(batch.column(0)), str(self._time), unit)

    def _stamps(self, column: Any) -> Array:
        kind = column.type
        if self._pa.types.is_time(kind):
            whole = column.cast(self._pa.int32() if kind.bit_width == 32 else self._pa.int64())
            return np.asarray(whole.cast(self._pa.int64())).astype(f"m8[{kind.unit}]")
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def _unit(self, at: int) -> str:
        field = self.schema.field(at)
        told = field.metadata or {}
        text = told.get(b"unit", told.get(b"units", b"")).decode("utf-8", "replace")
        return text or unit_of(field.name)


class ParquetSink:
    """A Parquet file that is being written; see `Sink`."""

    def __init__(
        self,
        source: ParquetSource,
        path: Path,
        partial: Path,
        other: Path,
        filled: tuple[int, ...],
    ) -> None:
        self.note: str | None = None
        self._source, self._path, self._partial, self._other = source, path, partial, other
        self._pa, self._parquet = library("pyarrow", path), library("pyarrow.parquet", path)
        self._filled = filled
        # Whole numbers, of which none has changed so far.
        self._whole = {
            name
            for name in source.names
            if self._pa.types.is_integer(source.schema.field(name).type)
        }
        self._integer = frozenset(self._whole)
        self._writer = self._created(partial, self._integer)

    def put(self, piece: Piece, values: Array) -> None:
        """Append the rows of a piece, with new readings (C, n) of its channels."""
        names, batch = self._source.names, piece.rows
        fresh = dict(zip(names, zip(values, piece.values, strict=True), strict=True))
        columns = [
            self._column(batch.column(at), field.name, *fresh[field.name])
            if field.name in fresh
            else batch.column(at)
            for at, field in enumerate(batch.schema)
        ]
        masks = np.isnan(piece.values[list(self._filled)]).astype(np.uint8)
        columns += [self._pa.array(mask) for mask in masks]
        self._writer.write_batch(self._pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def finish(self) -> list[tuple[Path, Path]]:
        """Complete the file; columns of whole numbers that never changed become so again."""
        self._writer.close()
        changed = sorted(self._integer - self._whole)
        if changed:
            self.note = f"{self._path}: {', '.join(changed)}: whole numbers became fractions"
        if not self._whole:
            return [(self._partial, self._path)]
        self._writer = self._created(self._other, self._integer - self._whole)
        with self._parquet.ParquetFile(self._partial) as file:
            for batch in file.iter_batches(ROWS):
                table = self._pa.Table.from_batches([batch]).cast(self._schema)
                self._writer.write_table(table)
        self._writer.close()
        return [(self._other, self._path)]

    def _created(self, path: Path, fractions: frozenset[str] | set[str]) -> Any:
        schema = self._source.schema
        for name in fractions:
            at = schema.get_field_index(name)
            schema = schema.set(at, schema.field(at).with_type(self._pa.float64()))
        for channel in self._filled:
            name = f"{self._source.names[channel]}_filled"
            schema = schema.append(self._pa.field(name, self._pa.uint8()))
        self._schema = schema
        return self._parquet.ParquetWriter(path, schema, compression=self._source.compression)

    def _column(self, held: Any, name: str, values: Array, before: Array) -> Any:
        if changed(values, before).any():
            self._whole.discard(name)
        elif not held.null_count and name not in self._integer:
            return held
        return self._pa.array(values).cast(self._schema.field(name).type, safe=False)


def _floats(column: Any) -> Array:
    """The numbers of a column, NaN where there is none."""
    values = column.to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64)


def _compression(metadata: Any) -> dict[str, str] | str:
    """How each column is compressed."""
    if not metadata.num_row_groups:
        return "snappy"
    group = metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    return {
        column.path_in_schema: "NONE"
        if column.compression == "UNCOMPRESSED"
        else column.compression
        for column in columns
    }
