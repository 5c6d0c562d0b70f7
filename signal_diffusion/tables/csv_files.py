"""Tables as text: CSV, TSV and their kin."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import beside, failures
from signal_diffusion.tables.base import Piece, Sink, changed
from signal_diffusion.tables.columns import Choice, distinct, pick, time_column
from signal_diffusion.tables.csv_layout import MISSING, Layout, is_missing, is_number, layout
from signal_diffusion.tables.time import Clock

#: Of a column without a name, steps that vary less than this tell of time stamps.
REGULAR = 0.5


#: Signs of a text that is amiss, for an error.
SHOWN = 40


class CsvSource:
    """A table in a text file; see `Source`.

    Args:
        path: the file.
        choice: what the user says of it.

    Raises:
        InputError: it is no table, or has no channels, or only one row.
    """

    def __init__(self, path: Path, choice: Choice) -> None:
        self.path = path
        self.length: int | None = None
        self.layout = layout(path, choice.delimiter)
        kind, stampy = _of_first(self.layout.column(0), self.layout.decimal)
        unnamed, whole = not self.layout.heads, list(self.layout.numeric)
        times = self.layout.stampy
        if unnamed and self.layout.names[0] == "1" and choice.channels is None:
            whole[0] &= kind != "count"
            times[0] |= stampy and len(whole) > 1
        names = self.layout.names
        self._time = time_column(path, names, times, choice)
        picked = pick(path, names, whole, choice, self._time)
        self.picked = tuple(sorted(picked))
        self.names = tuple(distinct(names)[at] for at in self.picked)
        self.units = tuple(self.layout.units[at] for at in self.picked)
        self.rate = choice.rate
        timed = self._time >= 0 and choice.rate is None
        self.clock: Clock | None = self._clock() if timed else None

    def pieces(self, *, stamps: bool = False, whole: bool = False) -> Iterator[Piece]:
        """All rows from the beginning on, with the time stamps if asked for; always whole."""
        for some in rows(self.path, self.layout):
            table = self._parsed(some, stamps)
            values = table[list(self.picked)].to_numpy(np.float64).T
            held = table[self._time].to_numpy() if stamps else None
            yield Piece(np.ascontiguousarray(values), held, some)

    def columns(self, piece: Piece) -> dict[str, Any]:
        """All columns of a piece, by name."""
        import pandas as pd

        table = pd.read_csv(io.BytesIO(piece.rows.raw.data), **self._manner())
        return {name: table[at].to_numpy() for at, name in enumerate(distinct(self.layout.names))}

    def rewriting(self, path: Path, filled: tuple[int, ...]) -> AbstractContextManager[Sink]:
        """Write the table again; see `Sink`."""
        return writing_csv(path, self.path, self.layout, self.picked, filled)

    def _clock(self) -> Clock:
        head = next(rows(self.path, self.layout))
        if len(head) < 2:
            raise InputError(
                f"{self.path} has one row only: its time stamps give no rate, pass rate= (--rate)"
            )
        stamps = self._parsed(head, True)[self._time].to_numpy()
        name, unit = self.layout.names[self._time], self.layout.units[self._time]
        return Clock(self.path, stamps, name, unit, first=self.layout.first)

    def _manner(self) -> dict[str, Any]:
        """How pandas is to read some rows."""
        import pandas as pd

        # Later versions round to the nearest float unasked.
        exact = {"float_precision": "round_trip"} if int(pd.__version__.split(".")[0]) < 3 else {}
        return {
            **exact,
            "sep": r"\s+" if self.layout.delimiter == " " else self.layout.delimiter,
            "decimal": self.layout.decimal,
            "encoding": self.layout.encoding,
            "encoding_errors": "replace",
            "header": None,
            "names": range(len(self.layout.names)),
            "index_col": False,
            "na_values": MISSING,
            "skip_blank_lines": False,
            "skipinitialspace": self.layout.delimiter != "\t",
            "low_memory": False,
        }

    def _parsed(self, some: Rows, stamps: bool) -> Any:
        import pandas as pd

        wanted = {*self.picked, self._time} if stamps else {*self.picked}
        types = dict.fromkeys(self.picked, "float64")
        try:
            table = pd.read_csv(
                io.BytesIO(some.raw.data), usecols=sorted(wanted), dtype=types, **self._manner()
            )
        except ValueError as error:
            raise self._text(some, error) from error
        if len(table) != len(some):
            raise InputError(f"{self.path}, from row {some.first} on: the ends of rows are mixed")
        return table

    def _text(self, some: Rows, error: Exception) -> InputError:
        """What is no number among the numbers."""
        for at in self.picked:
            starts, stops = some.spans(at)
            for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
                text = some.raw[start:stop].tobytes().decode(self.layout.encoding, "replace")
                text = " ".join(text.split())[:SHOWN]
                if not is_number(text, self.layout.decimal) and not is_missing(text):
                    return InputError(
                        f"{self.path}, row {some.first + number}, column "
                        f"'{self.layout.names[at]}': '{text}' is no number: mend it, leave the "
                        f"field empty, or leave the column out by skip= (--skip)"
                    )
        return InputError(f"{self.path}, from row {some.first} on, holds no numbers ({error})")


def _of_first(texts: list[str], decimal: str) -> tuple[str, bool]:
    """Whether a first column counts the rows, and whether it could be time stamps."""
    if len(texts) < 3 or not all(is_number(text, decimal) for text in texts):
        return "", False
    steps = np.diff([float(text.replace(decimal, ".")) for text in texts])
    if (steps == 1).all() and texts[0].isdigit():
        return "count", False
    regular = steps.min() > 0 and np.std(steps) < REGULAR * np.median(steps)
    return "", bool(regular)


CHUNK = 1 << 20


#: Bytes of rows that one quote holds open.
LONGEST = 1 << 24


QUOTE, SPACE, RETURN, TAB = b'" \r\t'


@dataclass(frozen=True)
class Rows:
    """Some rows as they stand in the file.

    Attributes:
        raw: their bytes, uint8, each row with its end.
        ends: (n, fields) where each field ends in them.
        first: number of the first of them in the file.
        closed: False for a last row whose end was added here.
    """

    raw: Array
    ends: Array
    first: int
    closed: bool = True

    def __len__(self) -> int:
        return len(self.ends)

    def spans(self, column: int) -> tuple[Array, Array]:
        """Where the fields of a column begin and end, less the blanks and quotes around them."""
        stops = self.ends[:, column].copy()
        starts = self.ends[:, column - 1] + 1 if column else self._starts()
        opened = starts + (self.raw[starts] == QUOTE)
        starts = starts.copy()
        while (blank := self._blank(starts) & (starts < stops)).any():
            starts += blank
        while (blank := self._blank(stops - 1) & (starts < stops)).any():
            stops -= blank
        # Of a field without any sign, it is between the quotes.
        empty = starts == stops
        return np.where(empty, opened, starts), np.where(empty, opened, stops)

    def closes(self) -> Array:
        """Where the end of each row begins, CR and LF or one of them."""
        ends = self.ends[:, -1]
        return ends - ((self.raw[ends - 1] == RETURN) & (ends > 0))

    def _starts(self) -> Array:
        return np.concatenate([[0], self.ends[:-1, -1] + 1])

    def _blank(self, places: Array) -> Array:
        signs = self.raw[places]
        return (signs == SPACE) | (signs == QUOTE) | (signs == RETURN) | (signs == TAB)


def rows(path: Path, layout: Layout) -> Iterator[Rows]:
    """All rows of a text table, some at a time.

    Raises:
        InputError: a row has more or fewer fields than the others, or quotes are amiss.
    """
    number = layout.first
    for raw, closed in _chunks(path, layout):
        some = _cut(path, raw, closed, layout, number)
        yield some
        number += len(some)


def tail(path: Path, layout: Layout) -> bytes:
    """The blank lines at the end of the file, or the blanks after a last row without an end."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(layout.start, size - CHUNK))
        end = file.read()
    blank = end[len(end.rstrip(b"\r\n ")) :]
    return blank[blank.find(layout.end) + 1 :]


def _chunks(path: Path, layout: Layout) -> Iterator[tuple[bytes, bool]]:
    """Bytes of whole rows, without the blank lines at the end of the file."""
    held = b""
    with path.open("rb") as file:
        file.seek(layout.start)
        while part := file.read(CHUNK):
            held += part
            cut = _last_end(held, layout.end)
            ready, left = held[:cut], held[cut:]
            ready, blank = _without_blank(ready, layout.end)
            held = blank + left
            if ready:
                yield ready, True
            elif len(held) > LONGEST:
                raise _quotes_amiss(path, layout.first)
    held = held.rstrip(b"\r\n ")
    if held:
        yield held + layout.end, False


def _without_blank(ready: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Rows, and the blank lines after them, which may be the last of the file.

    The end of the last row counts as blank: whether it has one is known at the end of the file.
    """
    content = ready.rstrip(b"\r\n ")
    size = ready.find(end, len(content)) + 1
    return (ready[:size], ready[size:]) if content else (b"", ready)


def _last_end(held: bytes, end: bytes) -> int:
    """Bytes up to the last end of a row that no quote holds open."""
    if b'"' not in held:
        return held.rfind(end) + 1
    raw = np.frombuffer(held, np.uint8)
    places = np.flatnonzero((raw == ord(end)) & ~_quoted(raw))
    return int(places[-1]) + 1 if len(places) else 0


def _quoted(raw: Array) -> Array:
    """Which bytes lie between quotes."""
    return np.bitwise_xor.accumulate(raw == QUOTE)


def _cut(path: Path, held: bytes, closed: bool, layout: Layout, number: int) -> Rows:
    raw = np.frombuffer(held, np.uint8)
    end, count = ord(layout.end), len(layout.names)
    marks = raw == end
    if count > 1:
        marks |= (
            _after_blanks(raw, end) if layout.delimiter == " " else raw == ord(layout.delimiter)
        )
    if b'"' in held:
        marks &= ~_quoted(raw)
        _require_quotes_around(path, raw, layout, number)
    places = np.flatnonzero(marks)
    last = raw[places] == end
    if len(places) != count * last.sum() or not last[count - 1 :: count].all():
        raise _ragged(path, np.flatnonzero(last), layout, number)
    return Rows(raw, places.reshape(-1, count), number, closed)


def _after_blanks(raw: Array, end: int) -> Array:
    """Which bytes are the last of several spaces between two fields."""
    marks = raw == SPACE
    marks[:-1] &= ~np.isin(raw[1:], (SPACE, RETURN, end))
    others = np.flatnonzero(raw != SPACE)
    places = np.flatnonzero(marks)
    before = np.searchsorted(others, places) - 1
    marks[places[(before < 0) | (raw[others[before]] == end)]] = False
    return marks


def _require_quotes_around(path: Path, raw: Array, layout: Layout, number: int) -> None:
    """Quotes open a field or close it; elsewhere, programs differ about what they mean."""
    opening = np.flatnonzero((raw == QUOTE) & _quoted(raw))
    before = raw[opening - 1]
    fine = (before == ord(layout.delimiter)) | (before == ord(layout.end)) | (before == QUOTE)
    fine |= (opening == 0) | (before == SPACE)
    if not fine.all() or (raw == QUOTE).sum() % 2:
        at = opening[-1] if fine.all() else opening[fine.argmin()]
        raise _quotes_amiss(path, number + int((raw[:at] == ord(layout.end)).sum()))


def _quotes_amiss(path: Path, number: int) -> InputError:
    return InputError(
        f'{path}, row {number}: a quote (") stands inside of a field or is not closed: it must '
        f"enclose the field; double those inside it"
    )


def _ragged(path: Path, lasts: Array, layout: Layout, number: int) -> InputError:
    counts = np.diff(lasts, prepend=-1)
    at = int((counts != len(layout.names)).argmax())
    return InputError(
        f"{path}, row {number + at}: it has {counts[at]} fields by '{layout.delimiter}', others "
        f"have {len(layout.names)}: make them equal, or name the delimiter (--delimiter)"
    )


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


#: Significant digits of every number, at least, and those that float64 holds.
LEAST, MOST = 6, 17


@dataclass(frozen=True)
class Digits:
    """How the numbers of a column are written.

    Attributes:
        decimals: after the decimal mark, at least; more where `LEAST` digits ask for them.
        exponent: they are written like 1.25e-03, with `decimals` in front of the e.
        mark: the decimal mark.

    >>> Digits(2).texts(np.array([12345.678, 1.5, -0.00021])).tobytes().split()
    [b'12345.68', b'1.50000', b'-0.000210000']
    """

    decimals: int
    exponent: bool = False
    mark: str = "."

    def texts(self, values: Array) -> Array:
        """Values (n,) as bytes, uint8, each with a line feed."""
        numbers = (values + 0.0).tolist()
        if self.exponent:
            text = f"%.{max(self.decimals, LEAST - 1)}e\n" * len(numbers) % tuple(numbers)
        else:
            text = self._fixed(values, numbers)
        return np.frombuffer(text.replace(".", self.mark).encode(), np.uint8)

    def _fixed(self, values: Array, numbers: list[float]) -> str:
        sizes = np.abs(values)
        with np.errstate(divide="ignore"):
            needed = LEAST - 1 - np.floor(np.log10(sizes))
        needed = np.where(sizes > 0, np.maximum(needed, self.decimals), self.decimals)
        if (needed == self.decimals).all():
            return f"%.{self.decimals}f\n" * len(numbers) % tuple(numbers)
        if needed.max() <= MOST:
            pairs = chain.from_iterable(zip(needed.astype(int).tolist(), numbers, strict=True))
            return "%.*f\n" * len(numbers) % tuple(pairs)
        # Far below one, zeros are no digits: an exponent is.
        return "".join(
            (f"%.{digits}f\n" if digits <= MOST else f"%.{LEAST - 1}e\n") % number
            for digits, number in zip(needed.astype(int).tolist(), numbers, strict=True)
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
