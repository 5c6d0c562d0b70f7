"""The rows of a text table, cut into fields as they stand in the file, and what fields hold."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError

#: Characters that are read at once, and those of rows that one quote may hold open.
CHUNK, LONGEST = 1 << 20, 1 << 18
#: Characters of a wrong text that an error shows.
SHOWN = 40
#: What may stand around a field, beside quotes.
BLANKS = " \t\r\n"
THOUSANDS = re.compile(r"[+-]?\d{1,3}([,.' \u00a0\u202f]\d{3})+([.,]\d+)?")
#: Fields that stand for no reading.
NOTHING = re.compile(r"(?i)|#?n/?a|-?nan|-?1\.#(ind|qnan)|null|none|<na>|-|--|\?|\.|missing|nodata")
NUMBERS = {
    mark: re.compile(
        rf"(?i)[+-]?(\d+{re.escape(mark)}?\d*|{re.escape(mark)}\d+)(e[+-]?\d+)?|[+-]?inf(inity)?"
    )
    for mark in ".,"
}


def split_fields(line: str, delimiter: str) -> list[str]:
    """The fields of a row, with their quotes and blanks; joined by the delimiter, they are the row.

    >>> split_fields('1,"a,b", 2', ","), split_fields("  1   2 ", " ")
    (['1', '"a,b"', ' 2'], ['  1', '  2 '])
    """
    if delimiter == " ":
        first, *others = _blank_separated().findall(line) or [""]
        return [first, *(field[1:] for field in others)]
    if '"' not in line:
        return line.split(delimiter)
    return _separated(delimiter).findall(line + delimiter)


@cache
def _blank_separated() -> re.Pattern[str]:
    return re.compile(r' *(?:"(?:[^"]|"")*"|[^ "\r]+)(?: *\r?$)?')


@cache
def _separated(delimiter: str) -> re.Pattern[str]:
    sign = re.escape(delimiter)
    return re.compile(rf'( *"(?:[^"]|"")*"[ \r]*|[^"{sign}]*){sign}')


def content(field: str) -> str:
    """What a field holds, without its quotes and blanks.

    >>> content(' "said ""so"" "')
    'said "so"'
    """
    text = field.strip(BLANKS)
    return text[1:-1].replace('""', '"').strip(BLANKS) if text[:1] == '"' else text


def contents(fields: list[str]) -> list[str]:
    """What some fields hold."""
    joined = "".join(fields)
    # The quick way.
    framed = '"' in joined or any(blank in joined for blank in BLANKS)
    return [content(field) for field in fields] if framed else fields


def is_number(text: str, decimal: str) -> bool:
    """Whether a text is a number with that decimal mark."""
    return NUMBERS[decimal].fullmatch(text) is not None


def is_missing(text: str) -> bool:
    """Whether a text says that there is no reading."""
    return NOTHING.fullmatch(text) is not None


def cause_of(text: str) -> str:
    """Why a text is probably no number, for an error; "" if that is unknown.

    >>> cause_of("1,013.25"), cause_of("oops")
    (' (by its separators of thousands)', '')
    """
    return " (by its separators of thousands)" if THOUSANDS.fullmatch(text) else ""


def numbers(texts: list[str], decimal: str) -> Array:
    """Texts as numbers (n,) float64, NaN for none.

    Raises:
        ValueError: one is no number.
    """
    points = texts if decimal == "." else [text.replace(decimal, ".") for text in texts]
    if "_" in "".join(points):
        raise ValueError("underscores, which Python takes in numbers")
    try:
        return np.array(list(map(float, points)))
    except ValueError:
        return np.array([np.nan if is_missing(text) else float(text) for text in points])


def rows(path: Path, start: int, end: str, encoding: str, first: int) -> Iterator[list[str]]:
    """Rows without their ends, without the blank ones at the end of the file, some at a time.

    Args:
        path: the file.
        start: bytes before the first row.
        end: character that ends a row.
        encoding: of the text; bytes that are none become surrogates.
        first: number of the first row, for errors.

    Raises:
        InputError: a quote is not closed.
    """
    held, blank = "", list[str]()
    with path.open(encoding=encoding, errors="surrogateescape", newline=end) as file:
        file.seek(start)
        while lines := file.readlines(CHUNK):
            found = blank
            for line in lines:
                held += line
                if '"' not in held or held.count('"') % 2 == 0:
                    found.append(held.removesuffix(end))
                    held = ""
                elif len(held) > LONGEST:
                    break
            if len(held) > LONGEST:
                break
            size = len(found)
            while size and not found[size - 1].strip(" \r"):
                size -= 1
            blank = found[size:]
            if size:
                yield found[:size]
                first += size
    if held:
        raise quotes_amiss(path, first + len(blank))


def tail(path: Path, start: int, end: bytes) -> tuple[bool, bytes]:
    """Whether the last row of a file has an end, and the blank lines or blanks after it."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(start, size - CHUNK))
        last = file.read()
    blank = last[len(last.rstrip(b"\r\n ")) :]
    return end in blank, blank[blank.find(end) + 1 :]


def quotes_amiss(path: Path, number: int) -> InputError:
    """The error of a row with a quote that doesn't enclose a field."""
    return InputError(
        f'{path}, row {number}: a quote (") stands inside of a field or is not closed: it must '
        "enclose the field; double those inside it"
    )


def ragged(path: Path, number: int, fields: list[str], delimiter: str, count: int) -> InputError:
    """The error of a row that has other than the usual number of fields."""
    if not "".join(fields).strip(BLANKS):
        return InputError(
            f"{path}, row {number}: it is blank, but other rows follow: delete it, and those below "
            "it if they are no readings"
        )
    return InputError(
        f"{path}, row {number}: it has {len(fields)} fields by '{delimiter}' (the first is "
        f"'{content(fields[0])[:SHOWN]}'), others have {count}: make them equal, delete the row if "
        "it is none of readings, or name the delimiter (--delimiter)"
    )
