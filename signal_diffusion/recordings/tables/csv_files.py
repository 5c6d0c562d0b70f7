"""Tables as text: CSV, TSV and their kin."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.errors import InputError
from signal_diffusion.recordings.tables.clock import Clock
from signal_diffusion.recordings.tables.csv_rows import Rows, rows
from signal_diffusion.recordings.tables.csv_writing import writing_csv
from signal_diffusion.recordings.tables.form import Choice
from signal_diffusion.recordings.tables.names import distinct, pick, time_column
from signal_diffusion.recordings.tables.sniffing import layout
from signal_diffusion.recordings.tables.sources import Piece, Sink
from signal_diffusion.recordings.tables.splitting import MISSING, is_missing, is_number

Array = NDArray[Any]

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
