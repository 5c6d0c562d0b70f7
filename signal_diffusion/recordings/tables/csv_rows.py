"""Rows of a text table as bytes, with the place of every field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.errors import InputError
from signal_diffusion.recordings.tables.sniffing import Layout

Array = NDArray[Any]

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
