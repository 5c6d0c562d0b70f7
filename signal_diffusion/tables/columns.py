"""Tables as every container gives them, and which of their columns are channels or the time."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.tables.time import UNITS

TIME = re.compile(
    r"((elapsed|rel|relative|abs|absolute|unix|epoch|local|utc|gmt|sample|recording)[\s_]*)?"
    r"(time|times|timestamps?|time[\s_]stamp|date[\s_/-]?time|date|utc|epoch|t|ts|x[\s_]?value"
    r"|seconds|secs?|ms|us|ns|milliseconds|microseconds|nanoseconds)"
    rf"([\s_]*(utc|gmt|local|({'|'.join(UNITS)})|[(\[].*[)\]]))?"
)
INDEX = re.compile(
    r"|#|n|no|nr|idx|index|row|sample|samples?[\s_]*(#|no|number|index)|unnamed: 0"
    r"|__index_level_0__"
)
UNIT = re.compile(r".*[(\[]([^()\[\]\d][^()\[\]]*)[)\]]\s*")
SHOWN = 12
#: What the name of the column that marks a channel's filled readings ends in.
FILLED = "_filled"
#: Containers by suffix.
CONTAINERS = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".txt": "CSV",
    ".parquet": "PARQUET",
    ".npy": "NPY",
    ".npz": "NPZ",
    ".hea": "WFDB",
    ".dat": "WFDB",
}
#: Lowest and highest rate, Hz: a reading in 30 years, and above what converters do.
RATES = (1e-9, 1e12)
MOST_COLUMNS = 1 << 14
#: Rows of a block from a binary file; even, since a format of WFDB packs two numbers at a time.
ROWS = 1 << 16


@dataclass(frozen=True)
class Block:
    """Some rows of a table, from any container.

    Attributes:
        start: number of rows before them in the table.
        columns: by their places in the source's names. Each is an array (n,) of numbers, texts or
            time stamps, or an object that keeps more and that `numpy.asarray` turns into one.
    """

    start: int
    columns: dict[int, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def readings(self, places: Sequence[int]) -> Array:
        """Columns of numbers (C, n) float64, NaN where one is missing."""
        return np.stack([np.asarray(self.columns[at], np.float64) for at in places])


class Source(Protocol):
    """A table in a file.

    Attributes:
        path: the file.
        names, units: names and units of all columns, "" for an unknown unit.
        numeric: which of the columns hold numbers.
        texts: for the places of columns of texts that look like numbers, why they are none.
        temporal: which columns have the form of time stamps; None if the container has no stamps.
        rate: sample rate in Hz, None if the file does not hold it.
        length: number of rows, None if counting them takes a pass.
        first: number of the first row in the file, for messages.
    """

    path: Path
    names: tuple[str, ...]
    units: tuple[str, ...]
    numeric: tuple[bool, ...]
    texts: Mapping[int, str] = MappingProxyType({})
    temporal: tuple[bool, ...] | None = None
    rate: float | None = None
    length: int | None = None
    first: int = 1

    def blocks(self, places: Collection[int] | None = None) -> Iterator[Block]:
        """All rows from the beginning on.

        Args:
            places: places of the columns that are needed; None for all of them.
        """
        ...


def pick(source: Source, columns: Columns, time: int) -> tuple[list[int], dict[int, str]]:
    """Places of the channels, of the columns that were named or else of those of numbers.

    Args:
        source: the table.
        columns: what the user states.
        time: place of the time column, -1 if there is none.

    Returns:
        The places of the channels, and why each of the other columns is none.

    Raises:
        InputError: there is none of that name or of numbers, or there are too many.
    """
    path, names = source.path, source.names
    if len(names) > MOST_COLUMNS:
        raise InputError(f"{path} has {len(names)} columns; {MOST_COLUMNS} may be: split it")
    skipped = {place(path, names, name) for name in columns.skip}
    named = {_numeric(source, name) for name in columns.channels or ()}
    reasons = {}
    for at in set(range(len(names))) - named:
        if at == time:
            reasons[at] = "time stamps"
        elif at in skipped:
            reasons[at] = "skipped"
        elif reason := "not named" if named else _other(source, at):
            reasons[at] = reason
    found = [at for at in range(len(names)) if at not in reasons]
    if not found:
        causes = "".join(f"; '{names[at]}': {text}" for at, text in source.texts.items())
        raise InputError(
            f"{path} has no column of numbers but the time and what is skipped (columns: "
            f"{listed(names)}{causes}): name its delimiter by delimiter= (--delimiter), if it was "
            "mistaken"
        )
    return found, reasons


def _other(source: Source, at: int) -> str:
    """Why a column is no channel by its form and name, "" if it may be one."""
    name = source.names[at]
    if not source.numeric[at]:
        return source.texts.get(at, "no numbers")
    if INDEX.fullmatch(plain(name)):
        return "row number"
    # As marked here before.
    marks = name.endswith(FILLED) and name.removesuffix(FILLED) in source.names
    return "marks of filled readings" if marks else ""


def time_column(source: Source, columns: Columns) -> int:
    """The place of the time column of a table, -1 if there is none."""
    if source.temporal is None:
        return -1
    names = source.names
    if columns.time is not None:
        return place(source.path, names, columns.time)
    named = [at for at, name in enumerate(names) if TIME.fullmatch(plain(name))]
    # Of a date and a time in columns of their own, the time comes last.
    named = [at for at in named if plain(names[at]) != "date"] or named
    named += [at for at, temporal in enumerate(source.temporal) if temporal]
    return next(iter(named), -1)


def place(path: Path, names: Sequence[str], name: str) -> int:
    """The column of a name.

    Raises:
        InputError: there is none, or there are several.
    """
    found = [at for at, other in enumerate(names) if name in (other, other.strip(" '\""))]
    if len(found) == 1:
        return found[0]
    many = "no column" if not found else f"{len(found)} columns"
    raise InputError(f"{path} has {many} '{name}': its columns are {listed(names)}")


def plain(name: str) -> str:
    """A name without what tables put around it.

    >>> plain(" 'Elapsed time'")
    'elapsed time'
    """
    return name.strip(" '\"#").lower()


def unit_of(name: str) -> str:
    """The unit in brackets at the end of a name, "" if there is none.

    >>> unit_of("ECG1 (mV)"), unit_of("ECG1")
    ('mV', '')
    """
    found = UNIT.fullmatch(name)
    return found[1] if found else ""


def distinct(names: Sequence[str]) -> list[str]:
    """Names, with the column's number after one that is empty or occurred before.

    >>> distinct(["a", "", "a"])
    ['a', 'column 2', 'a 3']
    """
    found: list[str] = []
    for at, name in enumerate(names):
        name = name or f"column {at + 1}"
        found.append(name if name not in found else f"{name} {at + 1}")
    return found


def listed(names: Sequence[str], form: Callable[[str], str] = repr) -> str:
    """Names for a line, not too many of them."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(form, names[:SHOWN])) + more


def _numeric(source: Source, name: str) -> int:
    at = place(source.path, source.names, name)
    if not source.numeric[at]:
        cause = f" ({source.texts[at]})" if at in source.texts else ""
        raise InputError(
            f"{source.path}: column '{name}' holds text{cause}; a channel must hold numbers"
        )
    return at


@dataclass(frozen=True)
class TableForm:
    """How a table of readings is stored.

    Attributes:
        sample_rate: rows per second, Hz, gaps filled in.
        channels: how many columns are signals.
        container: "CSV", "PARQUET", "NPY", "NPZ" or "WFDB".
        names: names of the channels.
        units: units of the channels, "" where they are unknown.
    """

    sample_rate: float
    channels: int
    container: str
    names: tuple[str, ...]
    units: tuple[str, ...]

    @property
    def dtype(self) -> str:
        """The floats that readings are read as."""
        return "float64"

    def __str__(self) -> str:
        return f"{self.container} of {', '.join(self.names)} at {self.sample_rate:g} Hz"


@dataclass(frozen=True)
class Columns:
    """What a user states about a table, None for what is to be detected.

    Args:
        rate: rows per second, Hz; then the time column is not looked at.
        channels: names of the columns to take; of a table without a header, numbers from "1".
        time: name of the time column.
        delimiter: between the fields of a text file.
        skip: names of columns that are left as they are.

    Raises:
        InputError: a value is out of its range.
    """

    rate: float | None = None
    channels: Sequence[str] | None = None
    time: str | None = None
    delimiter: str | None = None
    skip: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.rate is not None and not RATES[0] <= self.rate <= RATES[1]:
            raise InputError(f"rate is {self.rate} Hz; it goes from {RATES[0]:g} to {RATES[1]:g}")
        for name, value in (("channels", self.channels), ("skip", self.skip)):
            if isinstance(value, str):
                raise InputError(f"{name} is '{value}'; pass names in a tuple: ('{value}',)")
        if self.channels is not None and len(set(self.channels)) != max(len(self.channels), 1):
            raise InputError(f"channels is {self.channels}; name one or more, each once")
        if self.delimiter is not None and not _delimits(self.delimiter):
            raise InputError(f"delimiter is {self.delimiter!r}; it must be one sign, e.g. ';'")


def container_of(path: Path) -> str | None:
    """The container by the path's suffix, or by the header of a record; None for no table.

    >>> container_of(Path("a.tsv")), container_of(Path("a.wav"))
    ('CSV', None)
    """
    found = CONTAINERS.get(path.suffix.lower())
    return "WFDB" if found is None and is_record(path) else found


def is_record(path: Path) -> bool:
    """Whether a path is the name of a WFDB record, without a suffix."""
    return not path.exists() and main_file(path, "WFDB").is_file()


def main_file(path: Path, container: str | None) -> Path:
    """The file that a table's name stands for: of a record, its header.

    >>> main_file(Path("a.csv"), "CSV").name, main_file(Path("r.dat"), "WFDB").name
    ('a.csv', 'r.hea')
    """
    if container != "WFDB":
        return path
    return path.with_name((path.stem if path.suffix.lower() in CONTAINERS else path.name) + ".hea")


def output_file(path: Path, form: TableForm) -> tuple[str, Path]:
    """Container and main file of a table that is to be written.

    Args:
        path: where; a record may have no suffix.
        form: of the table that it is made of.

    Raises:
        InputError: the suffix is none of a table.
    """
    container = CONTAINERS.get(path.suffix.lower())
    if container is None and not path.suffix and form.container == "WFDB":
        container = "WFDB"
    if container is None:
        allowed = ", ".join(CONTAINERS)
        raise InputError(f"{path} can't be a table: its suffix must be one of {allowed}")
    return container, main_file(path, container)


def _delimits(sign: str) -> bool:
    return len(sign) == 1 and sign.isascii() and not sign.isalnum() and sign not in "\r\n\"'.+-_"
