"""How a text table is laid out, found from its first rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signal_diffusion.errors import InputError
from signal_diffusion.tables.columns import unit_of
from signal_diffusion.tables.csv_rows import (
    cause_of,
    content,
    is_missing,
    is_number,
    ragged,
    split_fields,
)
from signal_diffusion.tables.time import CLOCK

HEAD = 1 << 20
ROWS = 200
#: Seconds since 1970 of this century.
EPOCH = (946684800.0, 4102444800.0)
BOM = b"\xef\xbb\xbf"
DATE = re.compile(r"(\d{4}[-/]\d\d?[-/]\d\d?|\d\d\.\d\d\.\d{4})([T ].*)?")
UNIT = re.compile(
    r"(?i)[fpnumµkM]?(V|A|g|T|W|Pa|Hz|m|s|K|N|bar|rad|mol)([/²^*].*)?|°?C|%|a\.?u\.?|nu|dB\w*|adu"
    r"|bpm|mmHg|deg.*|[kM]?(ohm|Ω)s?|(milli|micro)?(volts?|seconds?)|hh:mm.*|[(\[].*[)\]]"
)
DELIMITERS = ("\t", ";", "|", ",", " ")
COMMENTS = ("#", "%", "//", "!")


@dataclass(frozen=True)
class Layout:
    """How a text table is laid out.

    Attributes:
        path: the file.
        delimiter, decimal, encoding: delimiter, decimal mark and encoding of the text.
        end: the byte that ends a row; LF where rows end in CR and LF.
        start: number of bytes before the first row of readings.
        heads: bytes up to the end of each line of the header, that of the names first.
        first: number of the first row of readings among all lines of the file, from 1.
        names, units: names and units of the columns; without a header, names are "1", "2", ...
        rows: fields of the first rows of readings.
        numeric: which columns hold numbers.
        rate: sample rate in Hz, None if the file does not hold it.
    """

    path: Path
    delimiter: str
    decimal: str
    encoding: str
    end: bytes
    start: int
    heads: tuple[int, ...]
    first: int
    names: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    rate: float | None

    def column(self, at: int) -> list[str]:
        """The first fields of a column."""
        return [row[at] for row in self.rows]

    @property
    def causes(self) -> dict[int, str]:
        """For the places of columns of texts that look like numbers, why they are none."""
        found = {}
        for at, numeric in enumerate(self.numeric):
            cells = [] if numeric else [text for text in self.column(at) if cause_of(text)]
            if len(cells) > len(self.rows) / 2:
                found[at] = f"'{cells[0]}' is no number{cause_of(cells[0])}"
        return found

    @property
    def temporal(self) -> list[bool]:
        """Which columns have the form of time stamps, which no other values have."""
        return [
            all(CLOCK.fullmatch(text) or DATE.fullmatch(text) for text in _bare(self.column(at)))
            for at in range(len(self.names))
        ]


def layout(path: Path, delimiter: str | None) -> Layout:
    """Find how a text table is laid out.

    Raises:
        InputError: the file is empty, no text, or no table.
    """
    head, encoding, end = _head(path)
    lines = _lines(head, end, encoding)
    split = best_split([text for text, _ in lines], delimiter)
    top = next((at for at, row in enumerate(split.fields) if len(row) == split.count), None)
    if top is None:
        raise InputError(f"{path} holds no rows, but comments: there is nothing to process")
    _require_no_readings(path, split, top)
    _require_numbers(path, split)
    data = _first_row(split, top)
    names, units, heads = _titles(split, lines, top, data)
    rate = None if heads else _stated_rate(split, data)
    data += 0 if rate is None else 2
    return Layout(
        path=path,
        delimiter=split.delimiter,
        decimal=split.decimal,
        encoding=encoding,
        end=end,
        start=lines[data][1],
        heads=tuple(lines[at][1] + len(lines[at][0].encode(encoding)) for at in heads),
        first=data + 1,
        names=tuple(names),
        units=tuple(u.strip("()[] ") or unit_of(n) for u, n in zip(units, names, strict=True)),
        rows=tuple(tuple(row) for row in split.fields[data:] if len(row) == split.count),
        numeric=split.numeric,
        rate=rate,
    )


def _head(path: Path) -> tuple[bytes, str, bytes]:
    with path.open("rb") as file:
        head = file.read(HEAD)
        more = bool(file.read(1))
    if b"\0" in head:
        raise InputError(f"{path} is no text table in UTF-8 (it holds zero bytes): save it as such")
    end = b"\n" if b"\n" in head or b"\r" not in head else b"\r"
    if more:
        head = head[: head.rfind(end) + 1]
    if not head.strip(BOM + b" \r\n"):
        raise InputError(
            f"{path} holds no rows"
            if not more
            else f"{path} has a first row of more than {HEAD} bytes: split its columns into files"
        )
    try:
        head.decode("utf-8")
        return head, "utf-8", end
    except UnicodeDecodeError:
        return head, "latin-1", end


def _lines(head: bytes, end: bytes, encoding: str) -> list[tuple[str, int]]:
    """The first lines with the byte at which each begins; an open quote goes on in the next."""
    lines: list[tuple[str, int]] = []
    start = len(BOM) if head.startswith(BOM) else 0
    open_from = start
    while start < len(head) and len(lines) < ROWS:
        stop = head.find(end, start) + 1 or len(head)
        text = head[open_from:stop].decode(encoding, "replace")
        if text.count('"') % 2 == 0 or text.startswith(COMMENTS):
            lines.append((text.rstrip("\r\n"), open_from))
            open_from = stop
        start = stop
    while len(lines) > 1 and not lines[-1][0].strip():
        lines.pop()
    return lines


def _is_header(split: Split, at: int) -> bool:
    """Whether most of the columns of numbers hold text in a line, or it is a comment."""
    row = split.fields[at]
    if len(row) != split.count:
        return not row
    held = [text for text, numeric in zip(row, split.numeric, strict=True) if numeric]
    filled = [text for text in held if not is_missing(text)]
    words = len([text for text in filled if not is_number(text, split.decimal)])
    if any(len(above) == split.count for above in split.fields[:at]):
        # Below the names there may be units, and rows with a text that is amiss.
        return 0 < words == len(filled) and (words > 1 or _are_units(filled))
    # Names may be numbers, but then that of the first column is none.
    named = split.numeric[0] and not is_number(row[0], split.decimal) and not is_missing(row[0])
    return named or 2 * words > len(filled)


def _first_row(split: Split, top: int) -> int:
    """The line of the first row of readings; rows of a preamble may stand above the names."""
    places = range(top, len(split.fields))
    data = next((at for at in places if not _is_header(split, at)), len(split.fields))
    for at in places[data - top :]:
        row = split.fields[at]
        if row and _is_header(split, at):
            return _first_row(split, at)
        held = [text for text, numeric in zip(row, split.numeric, strict=False) if numeric]
        if len(row) == split.count and all(is_number(text, split.decimal) for text in held):
            break
    return data


def _stated_rate(split: Split, data: int) -> float | None:
    """The rate in Hz where the first rows of a wristband hold its start since 1970 and its rate."""
    rows = split.fields[data : data + 3]
    if len(rows) < 3 or any(len(set(row)) != 1 for row in rows[:2]) or not all(split.numeric):
        return None
    start, rate = (float(row[0]) if is_number(row[0], ".") else 0.0 for row in rows[:2])
    return rate if EPOCH[0] < start < EPOCH[1] and 0 < rate < EPOCH[0] else None


def _require_no_readings(path: Path, split: Split, top: int) -> None:
    """Lines above the table may hold anything but what looks like its rows."""
    for at, row in enumerate(split.fields[:top]):
        if row and any(is_number(part, ".") for part in re.split(r"[,;\t|]", row[0])[:1]):
            raise ragged(path, at + 1, row, split.delimiter, split.count)


def _require_numbers(path: Path, split: Split) -> None:
    if sum(len(row) == split.count for row in split.fields) == 1 and not any(split.numeric):
        raise InputError(f"{path} has a header, but no rows below it: there is nothing to process")
    if not any(split.numeric):
        raise InputError(
            f"{path} has no column of numbers, as its first {len(split.fields)} rows show: name "
            f"its delimiter (--delimiter) if it is not a tab, blanks or one of ; | ,"
        )


def _titles(
    split: Split, lines: Sequence[tuple[str, int]], top: int, data: int
) -> tuple[list[str], list[str], tuple[int, ...]]:
    """Names and units of the columns, and the lines that hold them."""
    none = [""] * split.count
    above = [at for at in range(top, data) if split.fields[at]]
    if not above:
        names = _commented(split, lines, top)
        return names or [str(at + 1) for at in range(split.count)], none, ()
    titles = above[-1:]
    if len(above) > 1 and _are_units(split.fields[above[-1]]):
        titles = above[-2:]
    texts = [_bare(split.fields[at]) for at in titles]
    return texts[0], texts[1] if len(texts) > 1 else none, tuple(titles)


def _are_units(fields: list[str]) -> bool:
    texts = [text for text in _bare(fields) if text]
    return sum(UNIT.fullmatch(text) is not None for text in texts) > len(texts) / 2


def _commented(split: Split, lines: Sequence[tuple[str, int]], top: int) -> list[str]:
    """Names in the last comment above the rows, if there are as many."""
    text = lines[top - 1][0].lstrip("#%!/ ") if top else ""
    names = _bare(_fields(text, split.delimiter))
    return names if len(names) == split.count else []


def _bare(texts: Sequence[str]) -> list[str]:
    return [text.strip(" '") for text in texts]


@dataclass(frozen=True)
class Split:
    """The first lines of a text table by one delimiter.

    Attributes:
        delimiter, decimal: delimiter and decimal mark.
        fields: fields of each line; a comment has none.
        count: number of fields of most lines.
        numeric: which columns hold numbers.
        score: the share of columns of numbers, or nearly so, and how many columns there are.
    """

    delimiter: str
    decimal: str
    fields: list[list[str]]
    count: int
    numeric: tuple[bool, ...]
    score: tuple[float, int]


def best_split(texts: list[str], delimiter: str | None) -> Split:
    """Lines cut by the delimiter, or else by the one that gives most columns of numbers."""
    if delimiter is not None:
        return _split(texts, delimiter)
    splits = [_split(texts, sign) for sign in DELIMITERS]
    wide = [split for split in splits if split.count > 1] or [_split(texts, ",")]
    return max(wide, key=lambda split: split.score)


def _split(texts: list[str], delimiter: str) -> Split:
    fields = [[] if text.startswith(COMMENTS) else _fields(text, delimiter) for text in texts]
    counts = Counter(len(row) for row in fields[len(fields) // 4 :] if row)
    count = max(counts, key=lambda size: (counts[size], size), default=1)
    rows = [row for row in fields if len(row) == count]
    rows = rows[len(rows) // 2 :]
    decimal = _decimal(rows, delimiter)
    columns = [[row[at] for row in rows] for at in range(count)]
    numeric = tuple(_is_numeric(column, decimal) for column in columns)
    nearly = sum(_is_numeric([t for t in c if not cause_of(t)] or ["0"], decimal) for c in columns)
    return Split(delimiter, decimal, fields, count, numeric, score=(nearly / count, count))


def _fields(line: str, delimiter: str) -> list[str]:
    return [content(field) for field in split_fields(line, delimiter)] if line.strip() else []


def _decimal(rows: list[list[str]], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    commas = sum("," in text and is_number(text, ",") for row in rows for text in row)
    points = sum("." in text and is_number(text, ".") for row in rows for text in row)
    return "," if commas > points else "."


def _is_numeric(texts: list[str], decimal: str) -> bool:
    """Whether most are numbers; a stray text among them is an error of its row."""
    good = sum(is_number(text, decimal) or is_missing(text) for text in texts)
    return good >= 0.8 * len(texts) and any(text.strip() for text in texts)
