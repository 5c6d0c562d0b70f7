"""A WFDB record from a table of another container."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.recordings.partials import beside, failures
from signal_diffusion.recordings.tables.reader import TableReader
from signal_diffusion.recordings.tables.sources import Piece, Sink
from signal_diffusion.recordings.tables.wfdb_writing import SampleFile, checksum, record_of

Array = NDArray[Any]

#: Steps from zero to the largest reading, in 32 bits.
STEPS = (1 << 31) - 2
ROWS = 1 << 16


@contextmanager
def converting_to_wfdb(path: Path, reader: TableReader, filled: tuple[int, ...]) -> Iterator[Sink]:
    """Write the channels of a table as a WFDB record in physical units; see `Sink`."""
    with ExitStack() as files, failures(path):
        yield RecordTarget(record_of(path), reader, filled, files)


class RecordTarget:
    """A record of whole numbers of 32 bits, whose scale is known at the end; see `Sink`."""

    def __init__(
        self, record: Path, reader: TableReader, filled: tuple[int, ...], files: ExitStack
    ) -> None:
        self.note: str | None = f"{record}.hea holds the channels alone, in steps of 32 bits"
        self._record, self._reader, self._filled, self._files = record, reader, filled, files
        rows = reader.scan().rows
        self._flags = np.zeros((rows, len(filled)), np.float64)
        file = Path(files.enter_context(tempfile.TemporaryDirectory()), "values")
        self._values = np.memmap(file, np.float64, "w+", shape=(rows, reader.form.channels))
        self._rows = 0

    def put(self, piece: Piece, values: Array) -> None:
        """Append the rows of a piece."""
        rows = slice(self._rows, self._rows + values.shape[1])
        self._values[rows] = values.T
        self._flags[rows] = np.isnan(piece.values[list(self._filled)]).T
        self._rows = rows.stop

    def finish(self) -> list[tuple[Path, Path]]:
        """Write the numbers and the header."""
        form, name = self._reader.form, self._record.name
        peaks = np.abs(self._values).max(axis=0)
        gains = [float(f"{STEPS / peak:.6g}") * (1 - 1e-5) if peak else 1.0 for peak in peaks]
        units = [re.sub(r"\s", "_", unit) or "NU" for unit in form.units]
        lines, data = self._file(f"{name}.dat", "32", self._values, gains, list(form.names), units)
        if self._filled:
            names = [f"{form.names[at]}_filled" for at in self._filled]
            ones, none = [1.0] * len(names), ["NU"] * len(names)
            more, flags = self._file(f"{name}_filled.dat", "16", self._flags, ones, names, none)
            lines, data = lines + more, data + flags
        header = self._record.with_name(f"{name}.hea")
        partial = self._files.enter_context(beside(header))
        first = f"{name} {len(lines)} {form.sample_rate:.10g} {self._rows}\n"
        partial.write_text(first + "".join(lines), encoding="utf-8")
        return [*data, (partial, header)]

    def _file(
        self, name: str, kind: str, values: Array, gains: list[float], names: list[str],
        units: list[str],
    ) -> tuple[list[str], list[tuple[Path, Path]]]:  # fmt: skip
        """Write a file of numbers; the header's lines of it, and what is to be renamed."""
        file = SampleFile(self._files, self._record.with_name(name), kind)
        sums, first = np.zeros(len(names), np.int64), None
        for start in range(0, len(values), ROWS):
            part = np.rint(values[start : start + ROWS] * np.array(gains)).astype(np.int64)
            file.append(part)
            first = part[0] if first is None else first
            sums += part.sum(axis=0)
        assert first is not None
        columns = zip(gains, units, first, sums, names, strict=True)
        lines = [
            f"{name} {kind} {gain!r}(0)/{unit} {kind} 0 {begin} {checksum(int(total), 0)} 0 {own}\n"
            for gain, unit, begin, total, own in columns
        ]
        return lines, [(file.partial, file.path)]
