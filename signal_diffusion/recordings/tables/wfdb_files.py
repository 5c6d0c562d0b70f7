"""Records of WFDB, as PhysioNet keeps them: a header, and files of whole numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.errors import InputError
from signal_diffusion.recordings.tables.clock import Clock
from signal_diffusion.recordings.tables.form import Choice
from signal_diffusion.recordings.tables.libraries import library
from signal_diffusion.recordings.tables.names import distinct, pick
from signal_diffusion.recordings.tables.sources import Piece, Sink
from signal_diffusion.recordings.tables.wfdb_writing import writing_wfdb

Array = NDArray[Any]

#: Even, since a common format packs two numbers at a time.
ROWS = 1 << 16


class WfdbSource:
    """A WFDB record; see `Source`. Readings are in physical units.

    Args:
        path: the header, a file of samples beside it, or both without their suffix.
        choice: what the user says of it.
    """

    clock: Clock | None = None

    def __init__(self, path: Path, choice: Choice) -> None:
        self.path = path
        self._wfdb = library("wfdb", path)
        self.record = path.with_suffix("") if path.suffix.lower() in (".hea", ".dat") else path
        self.header = self._header()
        every = distinct(self.header.sig_name)
        self.every = tuple(every)
        self.picked = tuple(sorted(pick(path, every, [True] * len(every), choice, None)))
        self.names = tuple(every[at] for at in self.picked)
        self.units = tuple(self.header.units[at] or "" for at in self.picked)
        self.rate: float | None = choice.rate or float(self.header.fs)
        self._rows = self._length()
        self.length: int | None = self._rows

    def pieces(self, *, stamps: bool = False, whole: bool = False) -> Iterator[Piece]:
        """All rows from the beginning on; see `Source`."""
        for start in range(0, self._rows, ROWS):
            held, physical = self._read(start, min(start + ROWS, self._rows))
            yield Piece(np.ascontiguousarray(physical[:, list(self.picked)].T), None, held)

    def columns(self, piece: Piece) -> dict[str, Any]:
        """All signals of a piece, by name."""
        return dict(zip(self.every, self._physical(piece.rows).T, strict=True))

    def rewriting(self, path: Path, filled: tuple[int, ...]) -> AbstractContextManager[Sink]:
        """Write the record again; see `Sink`."""
        return writing_wfdb(path, self.record, self.header, self.picked, filled)

    def _physical(self, record: Any) -> Array:
        return np.asarray(record.dac(return_res=64), np.float64)

    def _header(self) -> Any:
        try:
            header = self._wfdb.rdheader(str(self.record.absolute()))
        except FileNotFoundError as error:
            raise InputError(
                f"{self.path} is no WFDB record: there is no header {self.record}.hea"
            ) from error
        except Exception as error:
            raise self._damaged(error) from error
        if isinstance(header, self._wfdb.MultiRecord) or not header.n_sig:
            raise InputError(f"{self.path} is a record without signals of its own, or of segments")
        if len(header.sig_name or ()) != header.n_sig or not header.fs:
            raise self._damaged(ValueError("its header is not whole"))
        if any(count != 1 for count in header.samps_per_frame):
            raise InputError(
                f"{self.path} holds signals of several rates; bring them to one rate first"
            )
        return header

    def _length(self) -> int:
        if self.header.sig_len:
            return int(self.header.sig_len)
        return len(self._read(0, None)[1])

    def _read(self, start: int, stop: int | None) -> tuple[Any, Array]:
        """Some rows as whole numbers, and in physical units."""
        try:
            record = self._wfdb.rdrecord(
                str(self.record.absolute()), start, stop, physical=False, ignore_skew=True
            )
            physical = self._physical(record)
        # The library lets through whatever goes wrong in it.
        except Exception as error:
            raise self._damaged(error) from error
        if physical.ndim != 2 or physical.shape[1] != len(self.every):
            raise self._damaged(ValueError("it has other signals than its header tells"))
        return record, physical

    def _damaged(self, error: Exception) -> InputError:
        why = " ".join(str(error).split()) or type(error).__name__
        return InputError(f"{self.path} is no WFDB record, or is cut short or damaged ({why})")
