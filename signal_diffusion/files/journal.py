"""Rows of results: JSON lines, written one by one so that a stopped run goes on, and CSV cells."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from signal_diffusion.errors import InputError
from signal_diffusion.files import atomic
from signal_diffusion.files.atomic import failures

#: A result: its description and its scores, as plain values.
Row = dict[str, Any]
#: The description of a measurement, which its row holds, and what measures the rest of the row.
Job = tuple[Row, Callable[[], Row]]
#: Where a cell begins, or may begin where other marks part cells, and a spreadsheet would run it.
BEGINS = "(^|[;\t\r\n]){}(?='*[-=+@\t\r\n\uff1d\uff0b\uff0d\uff20])"


class Journal:
    """A file of JSON lines, to which rows are added while a block runs.

    At the beginning of the block the file is written anew with the rows that are kept. What a kill
    cuts short is the last line alone, and that is no row.

    Args:
        path: of the file; its folder is made.
        key: the identity of a row; of several rows with one key the last counts.
        keep: whether a row of an earlier run stays in the file.

    Attributes:
        rows: by their keys, those of earlier runs that are kept and those that were added.

    Raises:
        InputError: the file can't be read or written, or holds something else.
    """

    def __init__(
        self,
        path: Path,
        key: Callable[[Row], Hashable],
        *,
        keep: Callable[[Row], bool] = lambda _: True,
    ) -> None:
        self._path, self._key = path, key
        self.rows = {key(row): row for row in read_rows(path) if keep(row)}

    def __enter__(self) -> Journal:
        with failures(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(self._path, _lines(list(self.rows.values())))
        with failures(self._path):
            self._file = self._path.open("a", encoding="utf-8", newline="\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        # What could not be written fails again.
        with suppress(OSError):
            self._file.close()

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows at once.

        Raises:
            InputError: the disk is full.
        """
        with failures(self._path):
            self._file.write(_lines(rows))
            self._file.flush()
        self.rows.update((self._key(row), row) for row in rows)


def measured(
    jobs: Sequence[Job], path: Path, progress: Callable[[int, int, Row], None] = lambda *_: None
) -> list[Row]:
    """The rows of all jobs; those that a journal holds already are not measured again.

    Args:
        jobs: descriptions, each with the function that measures.
        path: of the journal.
        progress: called as progress(done jobs, all jobs, row) after each.

    Raises:
        InputError: the journal holds something else, or can't be written.
    """
    found: list[Row] = []
    with Journal(path, lambda row: json.dumps(row, sort_keys=True)) as journal:
        for done, (description, measure) in enumerate(jobs, start=1):
            held = journal.rows.values()
            row = next((row for row in held if description.items() <= row.items()), None)
            if row is None:
                row = measure() | description
                journal.add([row])
            found += [] if row in found else [row]
            progress(done, len(jobs), row)
    return found


def read_rows(path: Path) -> list[Row]:
    """The rows of a journal, without a line that was cut short; none where there is no file.

    Raises:
        InputError: the file can't be read, or is something else.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file of rows")
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    if content and not content.startswith(b"{"):
        raise InputError(f"{path} exists and is no report of rows in JSON: give another name")
    parsed = map(_parsed, content.decode("utf-8", "replace").split("\n"))
    return [row for row in parsed if row is not None]


def _parsed(line: str) -> Row | None:
    with suppress(ValueError):
        row = json.loads(line)
        return row if isinstance(row, dict) else None
    return None


def _lines(rows: Sequence[Row]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def cell_of(value: Any) -> Any:
    """A value as a CSV holds it: before what a spreadsheet would run stands an apostrophe.

    >>> cell_of("=1+1"), cell_of("-5"), cell_of("a=b;=c"), cell_of(2.0)
    ("'=1+1", '-5', "a=b;'=c", 2.0)
    """
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        float(value)
        return value
    return re.sub(BEGINS.format(""), r"\1'", value)


def value_of(cell: str) -> str:
    """The text that `cell_of` made a cell of.

    >>> value_of(cell_of("'=1+1")), value_of("it's")
    ("'=1+1", "it's")
    """
    return re.sub(BEGINS.format("'"), r"\1", cell)
