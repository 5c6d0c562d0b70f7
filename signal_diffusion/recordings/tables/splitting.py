"""Lines of text as fields, by the delimiter that makes most sense of them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass

DELIMITERS = ("\t", ";", "|", ",", " ")
COMMENTS = ("#", "%", "//", "!")
#: Fields that stand for no reading, beside those that pandas knows.
MISSING = (
    *("-", "--", "?", ".", "missing", "Missing", "MISSING", "nodata", "NoData", "NODATA"),
    *("NAN", "Nan", "na", "NONE", "none", "Null"),
)
NOTHING = re.compile(r"(?i)|#?n/?a|-?nan|null|none|<na>|-|--|\?|\.|missing|nodata")
NUMBERS = {
    mark: re.compile(
        rf"(?i)[+-]?(\d+{re.escape(mark)}?\d*|{re.escape(mark)}\d+)(e[+-]?\d+)?|[+-]?inf(inity)?"
    )
    for mark in ".,"
}


@dataclass(frozen=True)
class Split:
    """The first lines of a text table by one delimiter.

    Attributes:
        delimiter, decimal: of the text.
        fields: of each line; none of a comment.
        count: how many fields most lines have.
        numeric: which columns hold numbers.
    """

    delimiter: str
    decimal: str
    fields: list[list[str]]
    count: int
    numeric: tuple[bool, ...]

    @property
    def score(self) -> tuple[float, int]:
        """The share of columns of numbers, and how many columns there are."""
        return (sum(self.numeric) / self.count, self.count)


def best_split(texts: list[str], delimiter: str | None) -> Split:
    """Lines as fields by the delimiter, or by the one that shows most columns of numbers."""
    if delimiter is not None:
        return _split(texts, delimiter)
    splits = [_split(texts, sign) for sign in DELIMITERS]
    wide = [split for split in splits if split.count > 1] or [_split(texts, ",")]
    return max(wide, key=lambda split: split.score)


def is_number(text: str, decimal: str) -> bool:
    """Whether a field holds a number with that decimal mark."""
    return NUMBERS[decimal].fullmatch(text.strip()) is not None


def is_missing(text: str) -> bool:
    """Whether a field says that there is no reading."""
    return NOTHING.fullmatch(text.strip()) is not None


def fields_of(text: str, delimiter: str) -> list[str]:
    """The fields of a line."""
    # A field may go over lines, but to the library only where quotes are as it expects.
    line = " ".join(text.splitlines()) if delimiter != " " else " ".join(text.split())
    try:
        rows = csv.reader([line], delimiter=delimiter, skipinitialspace=delimiter != "\t")
        return next(rows, [])
    except csv.Error:
        # Of more signs than a field may have.
        return [line]


def _split(texts: list[str], delimiter: str) -> Split:
    fields = [[] if text.startswith(COMMENTS) else fields_of(text, delimiter) for text in texts]
    counts = Counter(len(row) for row in fields[len(fields) // 4 :] if row)
    count = max(counts, key=lambda size: (counts[size], size), default=1)
    rows = [row for row in fields if len(row) == count]
    rows = rows[len(rows) // 2 :]
    decimal = _decimal(rows, delimiter)
    numeric = tuple(_is_numeric([row[at] for row in rows], decimal) for at in range(count))
    return Split(delimiter, decimal, fields, count, numeric)


def _decimal(rows: list[list[str]], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    commas = sum("," in text and is_number(text, ",") for row in rows for text in row)
    points = sum("." in text and is_number(text, ".") for row in rows for text in row)
    return "," if commas > points else "."


def _is_numeric(texts: list[str], decimal: str) -> bool:
    """Whether most are numbers; a stray text among them is an error to be told later."""
    good = sum(is_number(text, decimal) or is_missing(text) for text in texts)
    return good >= 0.8 * len(texts) and any(text.strip() for text in texts)
