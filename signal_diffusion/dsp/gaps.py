"""Missing readings filled from those around them, block by block."""

from __future__ import annotations

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError

#: Rows, and readings of all channels, that may wait for the end of a gap.
MOST_ROWS, MOST_READINGS = 1 << 20, 1 << 25


def with_missing(values: Array, missing: Array) -> Array:
    """Readings (C, n) with NaN for the rows (n,) missing before each: (C, n + missing.sum()).

    >>> with_missing(np.array([[1.0, 4.0]]), np.array([0, 2]))
    array([[ 1., nan, nan,  4.]])
    """
    if not missing.any():
        return values
    places = np.arange(values.shape[1]) + np.cumsum(missing)
    wide = np.full((len(values), int(places[-1]) + 1), np.nan)
    wide[:, places] = values
    return wide


class Filler:
    """Fills NaN linearly between the neighbours, and by the nearest reading at both ends.

    Args:
        where: name of the file, for errors.
        names: names of the channels.

    >>> filler = Filler("a.csv", ("x",))
    >>> filler.push(np.array([[1.0, np.nan]]))[0], filler.push(np.array([[3.0]]))[0]
    (array([[1.]]), array([[2., 3.]]))
    """

    def __init__(self, where: str, names: tuple[str, ...]) -> None:
        self._where, self._names = where, names
        self._most = min(MOST_ROWS, MOST_READINGS // len(names))
        self._waiting: list[Array] = []
        self._end = np.zeros(len(names), np.int64)
        self._before = np.full(len(names), np.nan)
        self._count = self._done = 0

    def push(self, values: Array) -> tuple[Array, Array]:
        """Append readings (C, n); returns those (C, m) that are complete, and which were filled."""
        here = np.isfinite(values)
        if here.all() and not self._waiting:
            self._end[:] = self._done = self._count = self._count + values.shape[1]
            self._before = values[:, -1].copy() if values.shape[1] else self._before
            return values, ~here
        last = values.shape[1] - here[:, ::-1].argmax(axis=1)
        self._end = np.where(here.any(axis=1), self._count + last, self._end)
        self._waiting.append(values)
        self._count += values.shape[1]
        self._require_short()
        # Cut only where something is ready: a long gap would be copied again and again.
        ready = int(self._end.min()) - self._done
        return self._take(ready) if ready else self._nothing()

    def flush(self) -> tuple[Array, Array]:
        """The rest of the readings, after the last `push`, and which of them were filled."""
        for name, end in zip(self._names, self._end, strict=True):
            if not end:
                raise InputError(
                    f"{self._where}, column '{name}': there is no reading in it: leave it out by "
                    f"skip= (--skip) or name the others by channels="
                )
        return self._take(self._count - self._done) if self._waiting else self._nothing()

    def _take(self, ready: int) -> tuple[Array, Array]:
        values = np.concatenate(self._waiting, axis=1)
        mask = np.isnan(values)
        for row, before in zip(values, self._before, strict=True):
            _fill(row, before)
        rest = np.where(mask[:, ready:], np.nan, values[:, ready:])
        self._waiting = [rest] if rest.shape[1] else []
        self._before = values[:, ready - 1].copy()
        self._done += ready
        return values[:, :ready], mask[:, :ready]

    def _nothing(self) -> tuple[Array, Array]:
        nothing = np.zeros((len(self._names), 0))
        return nothing, nothing.astype(bool)

    def _require_short(self) -> None:
        channel = int(self._end.argmin())
        if self._count - self._end[channel] > self._most:
            raise InputError(
                f"{self._where}, column '{self._names[channel]}': more than {self._most} readings "
                f"are missing from reading {self._end[channel] + 1} on: cut the file there, or "
                f"leave the column out by skip= (--skip)"
            )


def _fill(row: Array, before: float) -> None:
    """Fill one channel in place, which follows on a reading."""
    holes = np.isnan(row)
    if not holes.any() or (holes.all() and np.isnan(before)):
        return
    places = np.flatnonzero(~holes)
    values = row[places]
    if not np.isnan(before):
        places, values = np.append(-1, places), np.append(before, values)
    row[holes] = np.interp(np.flatnonzero(holes), places, values)


def filled(values: Array, missing: Array) -> Array:
    """Readings (C, n) with the missing ones filled as `Filler` fills them.

    >>> filled(np.array([[1.0, 9.0, 3.0, 9.0]]), np.array([[False, True, False, True]]))
    array([[1., 2., 3., 3.]])
    """
    rows = np.where(missing, np.nan, values).astype(values.dtype)
    for row in rows:
        _fill(row, np.nan)
    return rows
