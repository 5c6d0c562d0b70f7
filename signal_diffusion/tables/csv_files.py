"""Tables as text: CSV, TSV and their kin, whose fields come back as they stand in the file."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import beside
from signal_diffusion.tables.columns import Block, Columns, Source
from signal_diffusion.tables.csv_layout import Layout, layout
from signal_diffusion.tables.csv_rows import (
    SHOWN,
    cause_of,
    contents,
    is_missing,
    is_number,
    numbers,
    quotes_amiss,
    ragged,
    rows,
    split_fields,
    tail,
)
from signal_diffusion.tables.writer import Contents, changed

#: Steps in a column without a name that vary less than this are those of time stamps.
REGULAR = 0.5
#: What may stand around the content of a field.
FRAME = ' "\t\r'
#: Significant digits of every number, at least, and those that float64 holds.
LEAST, MOST = 6, 17


class CsvSource(Source):
    """A table in a text file; see `Source`.

    Args:
        path: the file.
        columns: its delimiter, where that is not to be found.

    Raises:
        InputError: it is no table.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.layout = path, layout(path, columns.delimiter)
        self.names, self.units = self.layout.names, self.layout.units
        self.first, self.rate = self.layout.first, self.layout.rate
        numeric, temporal = list(self.layout.numeric), self.layout.temporal
        if not self.layout.heads and self.names[0] == "1" and columns.channels is None:
            kind = _kind_of_first(self.layout.column(0), self.layout.decimal)
            numeric[0] &= kind != "count"
            temporal[0] |= kind == "time" and len(numeric) > 1
        self.texts = self.layout.causes
        self.numeric = tuple(numeric)
        self.temporal = tuple(temporal)

    def blocks(self, places: Collection[int] | None = None) -> Iterator[Block]:
        """All rows from the beginning on, always with all columns; see `Source`."""
        own, start = self.layout, 0
        for found in rows(self.path, own.start, own.end.decode(), own.encoding, self.first):
            first = self.first + start
            every = enumerate(self._columns(found, first))
            yield Block(start, {at: Texts(fields, own, at, first) for at, fields in every})
            start += len(found)

    def _columns(self, found: list[str], first: int) -> list[list[str]]:
        """The fields of each column of some rows, of which the first has that number."""
        sign, count = self.layout.delimiter, len(self.names)
        if count == 1:
            return [found]
        joined = sign.join(found)
        if sign != " " and '"' not in joined and all(r.count(sign) == count - 1 for r in found):
            # The quick way.
            fields = joined.split(sign)
            return [fields[at::count] for at in range(count)]
        table = [split_fields(row, sign) for row in found]
        for number, (row, fields) in enumerate(zip(found, table, strict=True), first):
            if '"' in row and sign.join(fields) != row:
                raise quotes_amiss(self.path, number)
            if len(fields) != count:
                raise ragged(self.path, number, fields, sign, count)
        return list(map(list, zip(*table, strict=True)))


def _kind_of_first(texts: list[str], decimal: str) -> str:
    """Whether a first column without a name counts the rows, or could hold the "time"."""
    if len(texts) < 3 or not all(is_number(text, decimal) for text in texts):
        return ""
    steps = np.diff([float(text.replace(decimal, ".")) for text in texts])
    if (steps == 1).all() and texts[0].isdigit():
        return "count"
    regular = steps.min() > 0 and np.std(steps) < REGULAR * np.median(steps)
    return "time" if regular else ""


@dataclass(frozen=True)
class Texts:
    """Some fields of a column as they stand in the file; `numpy.asarray` reads them.

    Attributes:
        fields: the fields with their quotes and blanks.
        layout: layout of the file.
        at: place of the column.
        first: number of the first row in the file.
    """

    fields: list[str]
    layout: Layout
    at: int
    first: int

    def __len__(self) -> int:
        return len(self.fields)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Numbers, NaN where there is none, or texts; InputError if they have to be numbers."""
        texts, decimal = contents(self.fields), self.layout.decimal
        if dtype is None:
            with suppress(ValueError, OverflowError):
                return np.array(list(map(int, texts)), np.int64)
        try:
            return numbers(texts, decimal)
        except ValueError as error:
            if dtype is not None:
                raise self._no_number(texts) from error
        # Bytes that are no text in this encoding are surrogates.
        shown = (text.encode(errors="replace").decode() for text in texts)
        return np.array([None if is_missing(text) else text for text in shown], object)

    def replaced(self, values: Array, where: Array, numbers: Digits) -> list[str]:
        """The fields with new numbers at some of their places (n,), quotes and blanks kept."""
        found, texts = list(self.fields), numbers.texts(values[where])
        every = "".join(found)
        framed = any(sign in every for sign in FRAME)
        if where.all() and not framed:
            return texts
        for at, text in zip(np.flatnonzero(where).tolist(), texts, strict=True):
            found[at] = _framed(found[at], text) if framed else text
        return found

    def _no_number(self, texts: list[str]) -> InputError:
        layout = self.layout
        found = (
            (number, text)
            for number, text in enumerate(texts, self.first)
            if not is_number(text, layout.decimal) and not is_missing(text)
        )
        number, text = next(found)
        return InputError(
            f"{layout.path}, row {number}, column '{layout.names[self.at]}': "
            f"'{' '.join(text.split())[:SHOWN]}' is no number{cause_of(text)}: mend it, leave the "
            "field empty, or leave the column out by skip= (--skip)"
        )


def _framed(field: str, text: str) -> str:
    """A text with the quotes and blanks around a field; in a field without any, at its begin.

    >>> _framed(' "3" ', "4"), _framed('""', "4"), _framed(" ", "4")
    (' "4" ', '"4"', '4 ')
    """
    content = field.strip(FRAME)
    if content:
        return field.replace(content, text, 1)
    opening = '"' if field.startswith('"') else ""
    return opening + text + field.removeprefix(opening)


class CsvSink:
    """A text table that is being written; see `Sink`."""

    def __init__(self, path: Path, contents: Contents, files: ExitStack) -> None:
        self.note: str | None = None
        self._path, self._contents = path, contents
        partial = files.enter_context(beside(path))
        self.files = [(partial, path)]
        self._file = files.enter_context(partial.open("wb"))
        source = contents.source
        self._layout = source.layout if isinstance(source, CsvSource) else None
        if self._layout is not None:
            layout = self._layout
            self._file.write(_head(layout, contents))
            self._digits = [digits_of(layout.column(at), layout.decimal) for at in contents.places]

    def put(self, block: Block, before: Array, after: Array) -> None:
        """Append the rows of a block; see `Sink`."""
        if self._layout is not None:
            self._file.write(self._rows(self._layout, block, before, after))
            return
        import pandas as pd

        frame = pd.DataFrame(self._contents.arrays(block, before, after))
        frame.to_csv(
            self._file,
            sep="," if self._path.suffix.lower() == ".csv" else "\t",
            header=not block.start,
            index=False,
            encoding="utf-8",
            lineterminator="\n",
        )

    def finish(self) -> None:
        """Complete the file; see `Sink`."""
        if self._layout is not None:
            own = self._layout
            closed, blank = tail(own.path, own.start, own.end)
            if not closed:
                self._file.truncate(self._file.seek(-len(own.end), io.SEEK_CUR))
            self._file.write(blank)
        self._file.close()

    def _rows(self, layout: Layout, block: Block, before: Array, after: Array) -> bytes:
        texts = [column.fields for column in block.columns.values()]
        fresh = changed(after, before)
        for channel, at in enumerate(self._contents.places):
            where = fresh[channel]
            if where.any():
                digits = self._digits[channel]
                texts[at] = block.columns[at].replaced(after[channel], where, digits)
        marks = [["01"[mark] for mark in row] for row in self._contents.marks(before).tolist()]
        if marks:
            # In files of CR and LF, the last field holds the CR.
            returns = ["\r" if field.endswith("\r") else "" for field in texts[-1]]
            texts[-1] = [field.removesuffix("\r") for field in texts[-1]]
            marks[-1] = [mark + end for mark, end in zip(marks[-1], returns, strict=True)]
            texts += marks
        end = layout.end.decode()
        every = map(layout.delimiter.join, zip(*texts, strict=True))
        return (end.join(every) + end).encode(layout.encoding, "surrogateescape")


def _head(layout: Layout, contents: Contents) -> bytes:
    """All above the rows, with the names of the marks."""
    with layout.path.open("rb") as file:
        head = file.read(layout.start)
    names = contents.mark_names
    for number, at in reversed(list(enumerate(layout.heads))):
        quote = '"' if head[:at].endswith(b'"') else ""
        texts = [f"{quote}{name}{quote}" if number == 0 else "" for name in names]
        more = "".join(layout.delimiter + text for text in texts)
        head = head[:at] + more.encode(layout.encoding, "replace") + head[at:]
    return head


@dataclass(frozen=True)
class Digits:
    """How the numbers of a column are written.

    Attributes:
        decimals: least number of digits after the decimal mark; more where `LEAST` need them.
        exponent: whether they are written like 1.25e-03, with `decimals` in front of the e.
        mark: the decimal mark.

    >>> Digits(2).texts(np.array([12345.678, 1.5, -0.00021]))
    ['12345.68', '1.50000', '-0.000210000']
    """

    decimals: int
    exponent: bool = False
    mark: str = "."

    def texts(self, values: Array) -> list[str]:
        """Values (n,) as texts."""
        numbers, digits = (values + 0.0).tolist(), self._needed(values)
        if self.exponent:
            texts = [f"{number:.{max(self.decimals, LEAST - 1)}e}" for number in numbers]
        else:
            # Far below one, zeros are no digits: an exponent is.
            texts = [
                f"{number:.{count}f}" if count <= MOST else f"{number:.{LEAST - 1}e}"
                for count, number in zip(digits, numbers, strict=True)
            ]
        return texts if self.mark == "." else [text.replace(".", self.mark) for text in texts]

    def _needed(self, values: Array) -> list[int]:
        sizes = np.abs(values)
        with np.errstate(divide="ignore"):
            needed = LEAST - 1 - np.floor(np.log10(sizes))
        return (
            np.where(sizes > 0, np.maximum(needed, self.decimals), self.decimals)
            .astype(int)
            .tolist()
        )


def digits_of(texts: Sequence[str], mark: str) -> Digits:
    """How to write changed numbers of a column that holds these: one decimal more than they have.

    >>> digits_of(["1,25", "-3", ""], ",")
    Digits(decimals=3, exponent=False, mark=',')
    """
    parts = [text.strip().lower().replace(mark, ".").partition("e") for text in texts]
    exponent = sum(bool(power) for _, _, power in parts) > len(parts) / 2
    decimals = max((len(number.partition(".")[2]) for number, _, _ in parts), default=0)
    whole = max((len(number.partition(".")[0].lstrip("+-0")) for number, _, _ in parts), default=0)
    most = MOST - 2 if exponent else max(MOST - 2 - whole, 0)
    return Digits(min(decimals + 1, most), exponent, mark)
