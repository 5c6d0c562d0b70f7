"""Scores on their way into a file: kept until all are known, then written beside their times."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.errors import InputError
from signal_diffusion.recordings.partials import beside, failures
from signal_diffusion.recordings.tables import TableReader
from signal_diffusion.recordings.tables.stamps import QUOTES

Array = NDArray[Any]

#: Windows that are read back at once.
BLOCK = 1 << 12


class Spool:
    """Arrays of one shape in a temporary file, so that memory stays bounded; `spooled` makes one.

    Attributes:
        length: how many there are.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, ...], length: int) -> None:
        self._file, self._shape, self.length = file, shape, length

    def blocks(self, first: int | None = None) -> Iterator[Array]:
        """All arrays, or the first so many, (n, *shape) float64."""
        bytes_each = 8 * math.prod(self._shape)
        length = self.length if first is None else first
        for start in range(0, length, BLOCK):
            self._file.seek(start * bytes_each)
            held = self._file.read(min(BLOCK, length - start) * bytes_each)
            yield np.frombuffer(held).reshape(-1, *self._shape)

    def thinned(self, most: int, first: int | None = None) -> Array:
        """At most so many of all arrays, or of the first ones, evenly spread."""
        step = max(1, math.ceil((self.length if first is None else first) / most))
        blocks = enumerate(self.blocks(first))
        return np.concatenate([block[-n * BLOCK % step :: step] for n, block in blocks])


@contextmanager
def spooled(arrays: Iterable[Array], shape: tuple[int, ...]) -> Iterator[Spool]:
    """Arrays of a shape, written to a temporary file that is gone at the end."""
    with TemporaryFile() as file:
        length = 0
        for array in arrays:
            file.write(np.asarray(array, np.float64).tobytes())
            length += 1
        yield Spool(file, shape, length)


def written_scores(
    path: Path, reader: TableReader, rows: int, scores: Iterable[Array]
) -> tuple[float, str, int]:
    """Write the scores (n, C) of windows as a CSV: the highest of all, its time, and how many lack.

    What is not known, NaN, is an empty field.

    Raises:
        InputError: no window has a score, or the file can't be written.
    """
    names = [f"{name}_score" for name in reader.form.names]
    times, highest, at, unscored = window_times(reader, rows), -math.inf, "", 0
    with beside(path) as partial, failures(path):
        with partial.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["time", "score", *names])
            for block in scores:
                for each in block:
                    known = each[~np.isnan(each)]
                    score, time = float(known.mean()) if len(known) else math.nan, next(times)
                    table.writerow([time, *(_written(value) for value in (score, *each))])
                    unscored += math.isnan(score)
                    if score > highest:
                        highest, at = score, time
        if not at:
            raise InputError(
                f"{reader.path}: every window of {rows} rows lacks more than half of its readings: "
                "take longer windows (--window), or columns with fewer gaps (--columns)"
            )
        os.replace(partial, path)
    return highest, at, unscored


def _written(score: float) -> str:
    return "" if math.isnan(score) else f"{score:.4f}"


def window_times(reader: TableReader, rows: int) -> Iterator[str]:
    """The time stamp of each window's first row, or of the next one where that is missing.

    Tables without time stamps have seconds from their beginning on.
    """
    if reader.source.clock is None:
        for start in count(0, rows):
            yield f"{start / reader.form.sample_rate:.10g}"
    scan, done, due = reader.scan(), 0, 0
    missing = np.concatenate([[0], np.cumsum(scan.counts)])
    for piece in reader.source.pieces(stamps=True):
        assert piece.stamps is not None
        lines = np.arange(done, done + len(piece.stamps))
        frames = lines + missing[np.searchsorted(scan.places, lines, side="right")]
        while len(frames) and due <= frames[-1]:
            yield str(piece.stamps[np.searchsorted(frames, due)]).strip(QUOTES)
            due += rows
        done += len(lines)
