"""The rate of a table by its time stamps, and the rows that are missing between them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError

DAY = 86400.0
#: Steps from half to one and a half of the usual one are that step with some jitter.
JITTER = 0.5
#: How far from whole steps stamps may lie, and which share of them may be farther.
OFF, OFF_SHARE = 0.25, 0.05
#: Steps of the rarer length by which rounding is told from gaps.
MANY = 4
#: The rate is taken as a round one where it is as near as this.
ROUND = 2e-3
#: Rows missing in one gap, which must fit into memory.
MOST_MISSING = 1 << 20
NANO = 1e-9
#: Seconds of a unit, by how it is written.
UNITS = {
    **dict.fromkeys(("day", "days"), DAY),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "micros", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), NANO),
}
#: Below each of these, a count since 1970 of this century is in that unit.
EPOCHS = ((1e8, 1.0), (1e11, 1.0), (1e14, 1e-3), (1e17, 1e-6), (1e20, NANO))
#: Days of this century, as spreadsheets count them and as Matlab does; the rate in Hz above which
#: seconds are hardly seconds, and how far from a whole number it may then be in rows a day.
DAYS = ((36525.0, 73050.0), (730486.0, 767011.0))
FASTEST, WHOLE = 1e5, 1e-3
NUMBER = re.compile(r"(?i)[+-]?\d+([.,]\d*)?(e[+-]?\d+)?")
CLOCK = re.compile(r"(\d+:)?\d+:\d+([.,]\d+)?")
#: A date as day, month and year; with other signs than dots, the month may come first.
DOTTED = re.compile(r"^(\d\d)\.(\d\d)\.(\d{4})\b")
QUOTES = " '\"[]"
MEND = "pass rate= (--rate) to take the rows as evenly spaced"


class Clock:
    """The time stamps of a table.

    Args:
        path: the file, for errors.
        head: the first stamps, two at least.
        name, unit: name and unit of the column.
        first: number of the first row, for errors.

    Attributes:
        step: seconds from one row to the next.
        rate: sample rate in Hz.

    Raises:
        InputError: these are no time stamps, or they are not regular.

    >>> Clock(Path("a.csv"), np.array([0, 4, 8, 16]), "time", "ms").rate
    250.0
    """

    def __init__(self, path: Path, head: Array, name: str, unit: str, *, first: int = 1) -> None:
        self._path, self._name, self._first = path, name, first
        self._row = 0
        if (at := first_text(head)) >= 0:
            raise self._unreadable(head, at)
        try:
            self._scale = scale_of(head, name, unit)
        except InputError as error:
            raise InputError(f"{path}, column '{name}': {error}; {MEND}") from error
        counts = self._counts(head)
        self._origin = counts[0]
        self._fine = resolution(counts - counts[0]) * self._scale.unit
        self.step, off = usual_step(self._steps(self._seconds(counts), 1), self._fine)
        self.rate = round_rate(self.step, off)
        self._last: float | None = None
        if unit_seconds(name, unit) is None and are_days(head, self.rate):
            raise InputError(
                f"{path}, column '{name}': the stamps look like days (of Excel: {head[0]:.15g}, "
                f"{head[1]:.15g}): multiply them by 86400 to have seconds, or {MEND}"
            )

    def anew(self) -> Clock:
        """The same clock at the first row."""
        other = copy(self)
        other._last, other._row = None, 0
        return other

    def missing(self, stamps: Array) -> Array:
        """Rows (n,) that are missing before each of the next rows.

        Raises:
            InputError: the stamps stand still, go back, or are not regular.
        """
        seconds = self._seconds(self._counts(stamps))
        last = seconds[0] - self.step if self._last is None else self._last
        steps = self._steps(np.concatenate([[last], seconds]), 0)
        missing = self._missing(steps)
        self._last, self._row = float(seconds[-1]), self._row + len(stamps)
        return missing

    def _missing(self, steps: Array) -> Array:
        """Whole steps that are too many; those of coarse stamps may be one count longer."""
        coarse = self._fine > 0.02 * self.step
        longest = math.ceil(self.step / self._fine - 1e-6) * self._fine * 1.01 if coarse else 0.0
        whole = np.where(steps <= longest, 1.0, np.maximum(np.rint(steps / self.step), 1.0))
        off = np.abs(steps / self.step - whole) > OFF + self._fine / self.step
        if off.sum() > OFF_SHARE * len(steps):
            row = self._first + self._row + int(off.argmax())
            raise InputError(
                f"{self._path}: the time stamps of '{self._name}' are not regular, from row {row} "
                f"on (steps of {self.step:g} s and of {steps[off.argmax()]:g} s): "
                f"resample it first, or {MEND}"
            )
        if whole.max() > MOST_MISSING:
            row = self._first + self._row + int(whole.argmax())
            raise InputError(
                f"{self._path}: before row {row}, {whole.max() - 1:.0f} rows are missing by the "
                f"time stamps of '{self._name}'; {MOST_MISSING} may be: cut the file there"
            )
        return (whole - 1).astype(np.int64)

    def _counts(self, stamps: Array) -> Array:
        try:
            counts = self._scale.numbers(stamps)
        except (ValueError, TypeError) as error:
            raise self._unreadable(stamps, self._first_bad(stamps)) from error
        bad = np.isnan(counts) if counts.dtype.kind == "f" else counts == np.iinfo(np.int64).min
        if bad.any():
            raise self._unreadable(stamps, int(bad.argmax()))
        return counts

    def _first_bad(self, stamps: Array) -> int:
        for at in range(len(stamps) - 1):
            try:
                self._scale.numbers(stamps[at : at + 1])
            except (ValueError, TypeError):
                return at
        return len(stamps) - 1

    def _unreadable(self, stamps: Array, at: int) -> InputError:
        row, text = self._first + self._row + at, str(stamps[at])
        what = "an empty field" if text in ("", "nan", "NaT", "None") else f"'{text}'"
        return InputError(
            f"{self._path}, row {row}, column '{self._name}': {what} is no time stamp like those "
            f"before it: delete the row if it is none of readings, mend the stamp, or {MEND}"
        )

    def _seconds(self, counts: Array) -> Array:
        # From the first count on, since floats of seconds since 1970 are coarse.
        return (counts - self._origin) * self._scale.unit

    def _steps(self, seconds: Array, ahead: int) -> Array:
        """Seconds between stamps, the second of which is `ahead` rows after the current one."""
        steps = np.diff(seconds)
        if self._scale.daily:
            steps = np.where(steps < -DAY / 2, steps + DAY, steps)
        still = ~(steps > 0)
        if still.any():
            at = int(still.argmax())
            row = self._first + self._row + at + ahead
            how = "stand still" if steps[at] == 0 else "go back"
            raise InputError(
                f"{self._path}: the time stamps of '{self._name}' {how} in row {row}; they must "
                f"rise: sort the rows or remove doubles, or, where they are rounded, {MEND}"
            )
        return steps


def usual_step(steps: Array, fine: float) -> tuple[float, float]:
    """Seconds from one row to the next and their error, from the steps (n,) between stamps.

    The slope of the stamps where all steps are about as long as their median, or where the stamps
    are regular but for rounding to counts of `fine` s, such as 900 Hz in milliseconds. Else the
    mean of the steps about as long as the median.
    """
    median = float(np.sort(steps)[(len(steps) - 1) // 2])
    near = np.abs(steps / median - 1) <= JITTER
    if near.all() or _is_rounded(steps, fine):
        error = 2 * max(fine, float(np.std(steps))) / len(steps) ** 1.5
        rows = np.arange(len(steps) + 1) - len(steps) / 2
        seconds = np.append(0.0, np.cumsum(steps))
        return float((rows * seconds).sum() / (rows * rows).sum()), error
    kept = steps[near]
    return float(kept.mean()), max(fine, float(np.std(kept))) / len(kept)


def _is_rounded(steps: Array, fine: float) -> bool:
    """Whether stamps are those of a regular clock but for rounding, not of one with gaps."""
    mean, grid = float(steps.mean()), np.arange(1, len(steps) + 1)
    rare = min((steps > mean).sum(), (steps < mean).sum())
    return bool(
        rare >= MANY
        and np.abs(steps - mean).max() <= fine
        and np.abs(np.cumsum(steps) - grid * mean).max() <= 1.01 * fine
    )


def round_rate(step: float, error: float) -> float:
    """The rate in Hz, a round number if that is within the error of a step in s.

    >>> round_rate(0.00277778, 1e-8), round_rate(1 / 359.7, 1e-9)
    (360.0, 359.7)
    """
    near = min(max(3 * error / step, 1e-6), ROUND)
    for digits in range(4):
        for rate in (round(1 / step, digits), 1 / (round(step, digits) or math.inf)):
            if abs(rate * step - 1) <= near:
                return float(rate)
    return 1 / step


@dataclass(frozen=True)
class Scale:
    """How the stamps of one column become seconds.

    Attributes:
        numbers: turns stamps into int64 or float64 counts.
        unit: seconds of a count.
        daily: whether they start again at midnight.
    """

    numbers: Callable[[Array], Array]
    unit: float
    daily: bool = False


def scale_of(head: Array, name: str, unit: str) -> Scale:
    """How to read the stamps of a column.

    Args:
        head: the first stamps: numbers, datetime64, timedelta64 or strings.
        name, unit: name and unit of the column.

    Raises:
        InputError: they have the form of no time stamps.

    >>> scale_of(np.array([0, 20]), "time_ms", "").unit
    0.001
    """
    if head.dtype.kind in "mM":
        name, count = np.datetime_data(head.dtype)
        seconds = UNITS.get(name, DAY) * count
        return Scale(lambda stamps: stamps.astype(head.dtype).view(np.int64), seconds)
    if head.dtype.kind in "iuf":
        return Scale(_counts, unit_seconds(name, unit) or _usual(head))
    first = str(head[0]).strip(QUOTES)
    if CLOCK.fullmatch(first):
        return Scale(_clock, NANO, daily=True)
    _dates(head[:1])
    return Scale(_dates, NANO)


def unit_seconds(name: str, unit: str) -> float | None:
    """Seconds of the unit in a column's name or unit.

    >>> unit_seconds("t [us]", ""), unit_seconds("time", "ms"), unit_seconds("timestamp", "")
    (1e-06, 0.001, None)
    """
    words = re.split(r"[\s_()\[\]/,.']+", f"{unit} {name}".strip().lower())
    return next((UNITS[word] for word in words if word in UNITS), None)


def first_text(stamps: Array) -> int:
    """The place of the first text among stamps that are mostly numbers, -1 if there is none.

    >>> first_text(np.array(["0.1", "0.2", "Average"], object)), first_text(np.array([0.1, 0.2]))
    (2, -1)
    """
    if stamps.dtype.kind not in "OUT":
        return -1
    texts = [not NUMBER.fullmatch(text) for text in _texts(stamps)]
    return texts.index(True) if 0 < sum(texts) < len(texts) / 2 else -1


def are_days(stamps: Array, rate: float) -> bool:
    """Whether stamps are days, of this century as spreadsheets and Matlab count them or elapsed.

    As seconds, they would have a rate that no sensor has; or they are whole seconds in fractions
    of a day.
    """
    if stamps.dtype.kind != "f":
        return False
    if not any(first <= stamps.min() <= stamps.max() <= last for first, last in DAYS):
        return rate > FASTEST and abs(rate / DAY - round(rate / DAY)) < WHOLE
    seconds = stamps * DAY
    whole = bool(np.abs(seconds - np.rint(seconds)).max() < 1e-2)
    return rate > FASTEST or (whole and resolution(stamps) < 1e-7)


def resolution(counts: Array) -> float:
    """The largest step of which all counts are multiples, 0 if there is none."""
    if counts.dtype.kind == "i":
        return float(np.gcd.reduce(np.diff(counts)))
    fine = float(np.spacing(np.abs(counts).max(initial=1.0)))
    for decimals in range(10):
        scaled = counts * 10.0**decimals
        if np.abs(scaled - np.rint(scaled)).max(initial=0) < 1e-3:
            return max(10.0**-decimals, fine)
    return fine


def _counts(stamps: Array) -> Array:
    if stamps.dtype.kind not in "iuf":
        raise ValueError("text among numbers")
    return stamps.astype(np.float64 if stamps.dtype.kind == "f" else np.int64)


def _usual(head: Array) -> float:
    """The unit by the size of the stamps, seconds if they are no counts since 1970."""
    size = float(np.nanmedian(np.abs(head.astype(np.float64))))
    return next((unit for limit, unit in EPOCHS if size < limit), 1.0)


def _texts(stamps: Array) -> list[str]:
    return [str(stamp).strip(QUOTES) for stamp in stamps]


def _clock(stamps: Array) -> Array:
    import pandas as pd

    texts = [text.replace(",", ".") for text in _texts(stamps)]
    whole = [text if text.count(":") == 2 else f"0:{text}" for text in texts]
    return np.asarray(pd.to_timedelta(whole).as_unit("ns").asi8)


def _dates(stamps: Array) -> Array:
    import pandas as pd

    texts = [DOTTED.sub(r"\3-\2-\1", text).replace("/", "-") for text in _texts(stamps)]
    try:
        return np.asarray(pd.to_datetime(texts, format="ISO8601", utc=True).as_unit("ns").asi8)
    except ValueError as error:
        raise InputError(
            f"'{stamps[0]}' is no time stamp: seconds, 12:00:00.5, 2024-01-31T12:00:00.5 or "
            "31.01.2024 12:00:00.5 are"
        ) from error
