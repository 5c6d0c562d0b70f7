"""Which samples of a recording a picture shows, found as it comes by in blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError

#: Windows that are compared begin at every eighth of one.
STEPS = 8
#: Samples of a window that is asked for.
MOST_ASKED = 1_000_000


class Window(NamedTuple):
    """Where a window begins and ends, in seconds or in rows; None for a length that suits."""

    begin: float
    end: float | None = None
    in_rows: bool = False

    @property
    def unit(self) -> str:
        return "rows" if self.in_rows else "s"


class Asked:
    """The samples from `first` on, before `last`, of lines (4, C, n) that are pushed."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.seen = first, last, 0
        self._parts: list[Array] = []

    def push(self, lines: Array) -> None:
        part = lines[..., max(0, self.first - self.seen) : max(0, self.last - self.seen)]
        self.seen += lines.shape[2]
        if part.size:
            self._parts.append(part)

    def finish(self) -> tuple[int, Array]:
        """Number of the first sample, and the lines."""
        if not self._parts:
            raise InputError(
                f"there are no samples to draw: the window begins at sample {self.first} of "
                f"{self.seen}; pass an earlier one"
            )
        return self.first, np.concatenate(self._parts, axis=2)


class Busiest:
    """The `length` samples of lines (4, C, n) in which the variance that was removed is largest.

    Each channel counts by the largest variance that it had so far, since their units may differ.
    """

    def __init__(self, length: int) -> None:
        self.length, self.seen = length, 0
        self._step = -(-length // STEPS)
        self._recent: Array | None = None
        self._best: tuple[int, Array, Array] | None = None
        self._largest: Array | float = np.finfo(np.float64).tiny

    def push(self, lines: Array) -> None:
        while lines.shape[2]:
            # Windows end at multiples of a step, however the samples come in blocks.
            count = self._step - self.seen % self._step
            self._take(lines[..., :count])
            lines = lines[..., count:]
            if self.seen % self._step == 0 and self.seen >= self.length:
                self._compare()

    def finish(self) -> tuple[int, Array]:
        """Number of the first sample, and the lines."""
        if self._recent is None:
            raise InputError("there are no samples to draw")
        self._compare()
        assert self._best is not None
        return self._best[0], self._best[2]

    def _take(self, lines: Array) -> None:
        both = lines if self._recent is None else np.concatenate([self._recent, lines], axis=2)
        self._recent = both[..., -self.length :]
        self.seen += lines.shape[2]

    def _compare(self) -> None:
        assert self._recent is not None
        power = (self._recent[0] - self._recent[1]).var(axis=1)
        self._largest = np.maximum(self._largest, power)
        if self._best is None or ((power - self._best[1]) / self._largest).sum() > 0:
            self._best = self.seen - self._recent.shape[2], power, self._recent.copy()


def window_of(text: str) -> Window:
    """The window that a user writes as START or START:END, in seconds, or in rows before "rows".

    Raises:
        InputError: it can't be read.

    >>> tuple(window_of("90")), tuple(window_of("1.5:3")), tuple(window_of("100:200rows"))
    ((90.0, None, False), (1.5, 3.0, False), (100.0, 200.0, True))
    """
    number = text.removesuffix("rows")
    begin, colon, end = number.partition(":")
    in_rows = number != text
    try:
        first, last = _number(begin, in_rows), _number(end, in_rows) if colon else None
        window = Window(first, last, in_rows)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"window is '{text}': give START or START:END in s, e.g. 60:75, or in rows, e.g. "
            "100:200rows"
        ) from error
    _require_sound(window)
    return window


def _number(text: str, in_rows: bool) -> float:
    return float(int(text)) if in_rows else float(text)


def span(window: Window, rate: float, frames: int | None, length: int) -> tuple[int, int]:
    """First and last sample of a window, of so many samples if its end is open, once it is sound.

    Raises:
        InputError: it is empty, too long, or behind the recording's end.
    """
    _require_sound(window)
    begin, end, in_rows = window
    each = 1.0 if in_rows else rate
    if frames is not None and begin * each >= frames:
        raise InputError(
            f"window begins at {begin:.10g} {window.unit}, but the recording ends at "
            f"{frames / each:.10g} {window.unit}: pass an earlier one"
        )
    first = round(begin * each)
    last = max(first + 1, round(begin * each + length) if end is None else round(end * each))
    if last - first > MOST_ASKED:
        raise InputError(
            f"window has {last - first} samples; pass at most {MOST_ASKED / each:g} "
            f"{window.unit} of it"
        )
    return first, last


def _require_sound(window: Window) -> None:
    begin, end, unit = window.begin, window.end, window.unit
    if not 0 <= begin < (begin + 1 if end is None else end) < float("inf"):
        text = f"{begin:.10g} {unit} on" if end is None else f"{begin:.10g} to {end:.10g} {unit}"
        raise InputError(f"window is {text}; it must begin at 0 {unit} or later and end after that")
