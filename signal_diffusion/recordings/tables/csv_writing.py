"""A text table again, byte for byte but for the readings that changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.recordings.partials import beside, failures
from signal_diffusion.recordings.tables.csv_rows import Rows, tail
from signal_diffusion.recordings.tables.digits import digits_of
from signal_diffusion.recordings.tables.sniffing import Layout
from signal_diffusion.recordings.tables.sources import Piece, changed

Array = NDArray[Any]

LINE_FEED = ord("\n")


@contextmanager
def writing_csv(
    path: Path, source: Path, layout: Layout, picked: tuple[int, ...], filled: tuple[int, ...]
) -> Iterator[CsvSink]:
    """Write a text table again.

    Args:
        path: output file.
        source: the table.
        layout: how it is laid out.
        picked: the columns that are channels, in order.
        filled: which of the channels get a mask column.
    """
    with beside(path) as partial, failures(path), partial.open("wb") as file:
        yield CsvSink(path, file, partial, source, layout, picked, filled)


class CsvSink:
    """A text table that is being written; see `Sink`."""

    def __init__(
        self,
        path: Path,
        file: IO[bytes],
        partial: Path,
        source: Path,
        layout: Layout,
        picked: tuple[int, ...],
        filled: tuple[int, ...],
    ) -> None:
        self.note: str | None = None
        self._path, self._file, self._partial, self._source = path, file, partial, source
        self._layout, self._picked, self._filled = layout, picked, filled
        texts = [layout.column(at) for at in picked]
        self._digits = [digits_of(column, layout.decimal) for column in texts]
        file.write(self._head())

    def put(self, piece: Piece, values: Array) -> None:
        """Append the rows of a piece, with new readings (C, n) of its channels."""
        rows: Rows = piece.rows
        fresh = changed(values, piece.values)
        masks = np.isnan(piece.values[list(self._filled)])
        content = rows.raw if not fresh.any() and not self._filled else None
        if content is None:
            content = _joined(*self._parts(rows, values, fresh, masks))
        if not rows.closed:
            content = content[: -len(self._layout.end)]
        self._file.write(content.tobytes())

    def finish(self) -> list[tuple[Path, Path]]:
        """Complete the file."""
        self._file.write(tail(self._source, self._layout))
        self._file.close()
        return [(self._partial, self._path)]

    def _head(self) -> bytes:
        """All above the rows, with the names of the masks."""
        with self._source.open("rb") as file:
            head = file.read(self._layout.start)
        if not self._filled:
            return head
        sign, encoding = self._layout.delimiter, self._layout.encoding
        names = [f"{self._layout.names[self._picked[at]]}_filled" for at in self._filled]
        for number, at in reversed(list(enumerate(self._layout.heads))):
            quote = '"' if head[:at].endswith(b'"') else ""
            texts = (
                [f"{quote}{name}{quote}" for name in names] if number == 0 else [""] * len(names)
            )
            more = "".join(sign + text for text in texts).encode(encoding, "replace")
            head = head[:at] + more + head[at:]
        return head

    def _parts(self, rows: Rows, values: Array, fresh: Array, masks: Array) -> Parts:
        """What the rows are put together from: bytes, and per row where each part lies in them."""
        pools, size = [rows.raw], len(rows.raw)
        begins, lengths = [], []
        cut = np.concatenate([[0], rows.ends[:-1, -1] + 1])
        for channel, column in enumerate(self._picked):
            here = fresh[channel]
            if not here.any():
                continue
            starts, stops = rows.spans(column)
            begins += [cut, starts.copy()]
            lengths += [starts - cut, stops - starts]
            texts = self._digits[channel].texts(values[channel, here])
            ends = np.flatnonzero(texts == LINE_FEED)
            first = np.concatenate([[0], ends[:-1] + 1])
            begins[-1][here], lengths[-1][here] = size + first, ends - first
            pools.append(texts)
            size, cut = size + len(texts), stops
        if self._filled:
            closes = rows.closes()
            begins.append(cut)
            lengths.append(closes - cut)
            pools.append(self._flags())
            for mask in masks:
                begins.append(size + 2 * mask.astype(np.int64))
                lengths.append(np.full(len(mask), 2))
            cut = closes
        begins.append(cut)
        lengths.append(rows.ends[:, -1] + 1 - cut)
        return np.concatenate(pools), np.stack(begins, axis=1), np.stack(lengths, axis=1)

    def _flags(self) -> Array:
        sign = self._layout.delimiter
        return np.frombuffer(f"{sign}0{sign}1".encode(), np.uint8)


Parts = tuple[Array, Array, Array]


def _joined(pool: Array, begins: Array, lengths: Array) -> Array:
    """The bytes of all parts (n, parts), row by row.

    >>> pool = np.frombuffer(b"abcdef", np.uint8)
    >>> _joined(pool, np.array([[4, 0]]), np.array([[2, 3]])).tobytes()
    b'efabc'
    """
    begins, lengths = begins.ravel().astype(np.int32), lengths.ravel()
    ends = np.cumsum(lengths)
    shifts = np.repeat(begins - (ends - lengths).astype(np.int32), lengths)
    return pool[shifts + np.arange(ends[-1], dtype=np.int32)]
