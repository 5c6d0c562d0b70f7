"""Tables in Parquet files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError, library
from signal_diffusion.files.atomic import beside
from signal_diffusion.tables.columns import ROWS, Block, Source, unit_of
from signal_diffusion.tables.writer import Contents, changed


class ParquetSource(Source):
    """A table in a Parquet file; see `Source`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pa = library("pyarrow", "sensors", of=path)
        self._parquet = library("pyarrow.parquet", "sensors", of=path)
        with self._damage(), self._opened() as file:
            self.schema = file.schema_arrow
            self.length = file.metadata.num_rows
            if file.metadata.num_row_groups:
                # Of damaged columns this is an error; their compression would end the process.
                next(file.iter_batches(1, row_groups=[0]), None)
            self.compression = _compression(file.metadata)
        types, kinds = self._pa.types, self.schema.types
        self.names = tuple(self.schema.names)
        self.units = tuple(_unit(field) for field in self.schema)
        self.numeric = tuple(types.is_integer(kind) or types.is_floating(kind) for kind in kinds)
        self.temporal = tuple(types.is_temporal(kind) for kind in kinds)

    def blocks(self, places: Collection[int] | None = None) -> Iterator[Block]:
        """All rows from the beginning on, columns as arrays of Arrow; see `Source`."""
        start, kept = 0, range(len(self.names)) if places is None else sorted(places)
        names = [self.names[at] for at in kept]
        # Columns of one name can only be read together with all others.
        apart = places is not None and len(set(self.names)) == len(self.names)
        with self._damage(), self._opened() as file:
            for batch in file.iter_batches(ROWS, columns=names if apart else None):
                held = names if apart else kept
                yield Block(
                    start, {at: batch.column(key) for at, key in zip(kept, held, strict=True)}
                )
                start += len(batch)

    def _opened(self) -> Any:
        return self._parquet.ParquetFile(self.path)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (self._pa.ArrowException, OSError, UnicodeDecodeError) as error:
            why = " ".join(str(error).split()).rstrip(".")
            raise InputError(f"{self.path} is no Parquet file or is damaged ({why})") from error


def _unit(field: Any) -> str:
    metadata = field.metadata or {}
    text = metadata.get(b"unit", metadata.get(b"units", b"")).decode("utf-8", "replace")
    return text or unit_of(field.name)


class ParquetSink:
    """A Parquet file that is being written; see `Sink`."""

    def __init__(self, path: Path, contents: Contents, files: ExitStack) -> None:
        self.note: str | None = None
        self._path, self._contents = path, contents
        self._partial, self._other = (files.enter_context(beside(path)) for _ in range(2))
        self.files = [(self._partial, path)]
        self._pa = library("pyarrow", "sensors", of=path)
        self._parquet = library("pyarrow.parquet", "sensors", of=path)
        source = contents.source
        self._source = source if isinstance(source, ParquetSource) else None
        # Channels of whole numbers, and those of which none has changed so far.
        self._integer = {at for at in contents.places if self._is_integer(at)}
        self._whole = set(self._integer)
        self._schema: Any = None

    def put(self, block: Block, before: Array, after: Array) -> None:
        """Append the rows of a block; see `Sink`."""
        arrays = self._arrays(block, before, after)
        if self._schema is None:
            self._open(self._partial, self._kept_schema(self._integer) or self._new_schema(arrays))
        columns = [
            array.cast(kind, safe=False)
            for array, kind in zip(arrays.values(), self._schema.types, strict=True)
        ]
        self._writer.write_batch(self._pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def finish(self) -> None:
        """Complete the file; channels of whole numbers that never changed become so again."""
        self._writer.close()
        fractions = self._integer - self._whole
        if fractions:
            names = ", ".join(sorted(self._contents.source.names[at] for at in fractions))
            self.note = f"{self._path}: {names}: whole numbers became fractions"
        if not self._whole:
            return
        self._open(self._other, self._kept_schema(fractions))
        with self._parquet.ParquetFile(self._partial) as file:
            for batch in file.iter_batches(ROWS):
                table = self._pa.Table.from_batches([batch]).cast(self._schema)
                self._writer.write_table(table)
        self._writer.close()
        self.files = [(self._other, self._path)]

    def _is_integer(self, at: int) -> bool:
        kind = None if self._source is None else self._source.schema.field(at).type
        return kind is not None and bool(self._pa.types.is_integer(kind))

    def _arrays(self, block: Block, before: Array, after: Array) -> dict[Any, Any]:
        """All columns as arrays of Arrow, by their places, marks by their names."""
        if self._source is None:
            arrays = self._contents.arrays(block, before, after)
            # In columns of texts, what is no text is null.
            return {
                name: self._pa.array(array, from_pandas=array.dtype == object)
                for name, array in arrays.items()
            }
        held = dict(block.columns)
        for at, new, old in zip(self._contents.places, after, before, strict=True):
            if changed(new, old).any():
                self._whole.discard(at)
            elif not held[at].null_count:
                continue
            held[at] = self._pa.array(new, from_pandas=at in self._integer)
        marks = map(self._pa.array, self._contents.marks(before))
        return {**held, **dict(zip(self._contents.mark_names, marks, strict=True))}

    def _kept_schema(self, fractions: Collection[int]) -> Any:
        """The schema of the source, with marks; some of its channels become fractions."""
        if self._source is None:
            return None
        schema = self._source.schema
        for at in fractions:
            schema = schema.set(at, schema.field(at).with_type(self._pa.float64()))
        for name in self._contents.mark_names:
            schema = schema.append(self._pa.field(name, self._pa.uint8()))
        return schema

    def _new_schema(self, arrays: dict[str, Any]) -> Any:
        form = self._contents.form
        units = dict(zip(form.names, form.units, strict=True))
        return self._pa.schema(
            self._pa.field(
                name, array.type, metadata={"unit": units[name]} if units.get(name) else None
            )
            for name, array in arrays.items()
        )

    def _open(self, path: Path, schema: Any) -> None:
        compression = "snappy" if self._source is None else self._source.compression
        self._schema = schema
        self._writer = self._parquet.ParquetWriter(path, schema, compression=compression)


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
