"""What every container of tables offers, so that one reader and one writer serve them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.tables.time import Clock


@dataclass(frozen=True)
class Piece:
    """Some rows of a table.

    Attributes:
        values: (C, n) float64 readings of the channels, NaN where one is missing.
        stamps: (n,) of the time column as the file holds it, if it was asked for.
        rows: what the container needs to write them again.
    """

    values: Array
    stamps: Array | None
    rows: Any


def changed(values: Array, before: Array) -> Array:
    """Which readings are new; one that is still missing is not."""
    return (values != before) & ~(np.isnan(values) & np.isnan(before))


class Source(Protocol):
    """A table in a file.

    Attributes:
        path: the file.
        names, units: of the channels, each name once.
        rate: Hz, as the user or the file tells it; None where the time stamps do.
        length: rows, None if it is not known without a pass.
        clock: reads the time stamps; None if there are none, or they are not to be looked at.
    """

    path: Path
    names: tuple[str, ...]
    units: tuple[str, ...]
    rate: float | None
    length: int | None
    clock: Clock | None

    def pieces(self, *, stamps: bool = False, whole: bool = False) -> Iterator[Piece]:
        """All rows from the beginning on.

        Args:
            stamps: with the time stamps.
            whole: with all that it takes to write them again.
        """
        ...

    def columns(self, piece: Piece) -> dict[str, Any]:
        """All columns of a whole piece, by name, for another container."""
        ...

    def rewriting(self, path: Path, filled: tuple[int, ...]) -> AbstractContextManager[Sink]:
        """Write the table again; see `Sink`. `filled` are the channels that get a mask."""
        ...


class Sink(Protocol):
    """A table that is being written.

    Attributes:
        note: what could not be given back as it came, known at the end.
    """

    note: str | None

    def put(self, piece: Piece, values: Array) -> None:
        """Append the rows of a piece, with new readings (C, n) of its channels."""
        ...

    def finish(self) -> list[tuple[Path, Path]]:
        """Complete the files, and tell which are to be renamed to which."""
        ...


def library(name: str, path: Path) -> Any:
    """A library of the extra `sensors`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(
            f"{path} needs the package {package}: pip install 'signal-diffusion[sensors]'"
        ) from error
