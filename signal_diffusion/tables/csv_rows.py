"""The rows of a text table, cut into fields as they stand in the file."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.tables.csv_layout import Layout

#: Bytes that are read at once, and bytes of rows that one quote may hold open.
CHUNK, LONGEST = 1 << 20, 1 << 24
QUOTE, SPACE, RETURN = b'" \r'


def tail(layout: Layout) -> tuple[bool, bytes]:
    """Whether the last row has an end, and the blank lines or blanks after it."""
    with layout.path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(layout.start, size - CHUNK))
        end = file.read()
    blank = end[len(end.rstrip(b"\r\n ")) :]
    return layout.end in blank, blank[blank.find(layout.end) + 1 :]


def chunks(layout: Layout) -> Iterator[bytes]:
    """Bytes of whole rows, each with its end, without the blank lines at the end of the file."""
    held = b""
    with layout.path.open("rb") as file:
        file.seek(layout.start)
        while part := file.read(CHUNK):
            held += part
            cut = _last_end(held, layout.end)
            ready, left = held[:cut], held[cut:]
            ready, blank = _without_blank(ready, layout.end)
            held = blank + left
            if ready:
                yield ready
            elif len(held) > LONGEST:
                raise _quotes_amiss(layout, layout.first)
    held = held.rstrip(b"\r\n ")
    if held:
        yield held + layout.end


def _without_blank(ready: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Rows, and the blank lines after them, which may be the last of the file."""
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


def fields(rows: bytes, layout: Layout, number: int) -> list[list[str]]:
    """The fields of each column, of rows of which the first has that number in the file.

    Raises:
        InputError: a row has more or fewer fields than the others, or quotes are amiss.
    """
    raw = np.frombuffer(rows, np.uint8)
    end, count = ord(layout.end), len(layout.names)
    marks = raw == end
    if count > 1:
        blanks = layout.delimiter == " "
        marks |= _after_blanks(raw, end) if blanks else raw == ord(layout.delimiter)
    if b'"' in rows:
        marks &= ~_quoted(raw)
        _require_quotes_around(layout, raw, number)
    places = np.flatnonzero(marks)
    last = raw[places] == end
    if len(places) != count * last.sum() or not last[count - 1 :: count].all():
        raise _ragged(layout, np.flatnonzero(last), number)
    text, sign, final = rows.decode("latin-1"), layout.delimiter, layout.end.decode()
    if '"' not in text and sign != " ":
        # The quick way.
        found = text[:-1].replace(final, sign).split(sign)
    else:
        stops = places.tolist()
        starts = [0, *(stop + 1 for stop in stops[:-1])]
        found = [text[start:stop] for start, stop in zip(starts, stops, strict=True)]
    return [found[at::count] for at in range(count)]


def _after_blanks(raw: Array, end: int) -> Array:
    """Which bytes are the last of several spaces between two fields."""
    marks = raw == SPACE
    marks[:-1] &= ~np.isin(raw[1:], (SPACE, RETURN, end))
    others = np.flatnonzero(raw != SPACE)
    places = np.flatnonzero(marks)
    before = np.searchsorted(others, places) - 1
    marks[places[(before < 0) | (raw[others[before]] == end)]] = False
    return marks


def _require_quotes_around(layout: Layout, raw: Array, number: int) -> None:
    """Quotes open a field or close it; elsewhere, programs differ about what they mean."""
    opening = np.flatnonzero((raw == QUOTE) & _quoted(raw))
    before = raw[opening - 1]
    fine = (before == ord(layout.delimiter)) | (before == ord(layout.end)) | (before == QUOTE)
    fine |= (opening == 0) | (before == SPACE)
    if not fine.all() or (raw == QUOTE).sum() % 2:
        at = opening[-1] if fine.all() else opening[fine.argmin()]
        raise _quotes_amiss(layout, number + int((raw[:at] == ord(layout.end)).sum()))


def _quotes_amiss(layout: Layout, number: int) -> InputError:
    return InputError(
        f'{layout.path}, row {number}: a quote (") stands inside of a field or is not closed: it '
        f"must enclose the field; double those inside it"
    )


def _ragged(layout: Layout, lasts: Array, number: int) -> InputError:
    counts = np.diff(lasts, prepend=-1)
    at = int((counts != len(layout.names)).argmax())
    return InputError(
        f"{layout.path}, row {number + at}: it has {counts[at]} fields by '{layout.delimiter}', "
        f"others have {len(layout.names)}: make them equal, or name the delimiter (--delimiter)"
    )
