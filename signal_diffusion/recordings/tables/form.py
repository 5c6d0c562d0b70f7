"""What a table of readings is: its rate, its channels, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signal_diffusion.errors import InputError

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
#: Hz: below a reading in some 30 years, and above what converters do.
RATES = (1e-9, 1e12)
MOST_COLUMNS = 1 << 14


@dataclass(frozen=True)
class TableForm:
    """How a table of readings is stored.

    Attributes:
        sample_rate: rows per second, Hz, gaps filled in.
        channels: how many columns are signals.
        container: "CSV", "PARQUET", "NPY", "NPZ" or "WFDB".
        names: of the channels.
        units: of the channels, "" where the file does not tell.
    """

    sample_rate: float
    channels: int
    container: str
    names: tuple[str, ...]
    units: tuple[str, ...]

    @property
    def dtype(self) -> str:
        """The floats that its readings are handed out in."""
        return "float64"

    def __str__(self) -> str:
        return f"{self.container} of {', '.join(self.names)} at {self.sample_rate:g} Hz"


@dataclass(frozen=True)
class Choice:
    """What a user says of a table, None where it is to be found.

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
    return not path.exists() and path.with_name(path.name + ".hea").is_file()


def _delimits(sign: str) -> bool:
    return len(sign) == 1 and sign.isascii() and not sign.isalnum() and sign not in "\r\n\"'.+-_"
