"""Time stamps of all kinds, as seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.errors import InputError

Array = NDArray[Any]

NANO = 1e-9
#: Seconds of a unit, by how it is written.
UNITS = {
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "micros", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), NANO),
}
#: Below each of these, a count since 1970 of this century is in that unit.
EPOCHS = ((1e8, 1.0), (1e11, 1.0), (1e14, 1e-3), (1e17, 1e-6), (1e20, NANO))
CLOCK = re.compile(r"(\d+:)?\d+:\d+([.,]\d+)?")
QUOTES = " '\"[]"


@dataclass(frozen=True)
class Scale:
    """How the stamps of one column become seconds.

    Attributes:
        numbers: makes int64 or float64 counts of them.
        unit: seconds of a count.
        daily: they begin anew at midnight.
    """

    numbers: Callable[[Array], Array]
    unit: float
    daily: bool = False


def scale_of(head: Array, name: str, unit: str) -> Scale:
    """How to read the stamps of a column.

    Args:
        head: some of them: numbers, datetime64 or timedelta64, or strings.
        name, unit: of the column.

    Raises:
        InputError: they are no time stamps that are known here.

    >>> scale_of(np.array([0, 20]), "time_ms", "").unit
    0.001
    """
    if head.dtype.kind in "mM":
        return Scale(lambda stamps: stamps.astype(head.dtype).view(np.int64), _unit(head.dtype))
    if head.dtype.kind in "iuf":
        return Scale(_counts, told_unit(name, unit) or _usual(head))
    first = str(head[0]).strip(QUOTES)
    if CLOCK.fullmatch(first):
        return Scale(lambda stamps: _clock(stamps), NANO, daily=True)
    _dates(head[:1])
    return Scale(_dates, NANO)


def told_unit(name: str, unit: str) -> float | None:
    """Seconds of the unit that a column's name or unit tells of.

    >>> told_unit("t [us]", ""), told_unit("time", "ms"), told_unit("timestamp", "")
    (1e-06, 0.001, None)
    """
    words = re.split(r"[\s_()\[\]/,.']+", f"{unit} {name}".strip().lower())
    return next((UNITS[word] for word in words if word in UNITS), None)


def resolution(counts: Array) -> float:
    """The step that all the counts are multiples of, 0 if there is none to be seen."""
    if counts.dtype.kind == "i":
        return float(np.gcd.reduce(np.diff(counts)))
    fine = float(np.spacing(np.abs(counts).max(initial=1.0)))
    for decimals in range(10):
        scaled = counts * 10.0**decimals
        if np.abs(scaled - np.rint(scaled)).max(initial=0) < 1e-3:
            return max(10.0**-decimals, fine)
    return fine


def _counts(stamps: Array) -> Array:
    if stamps.dtype.kind in "iu":
        return stamps.astype(np.int64)
    if stamps.dtype.kind == "f":
        return stamps.astype(np.float64)
    raise ValueError("text among numbers")


def _usual(head: Array) -> float:
    """The unit by the size of the stamps, seconds if they are no counts since 1970."""
    size = float(np.nanmedian(np.abs(head.astype(np.float64))))
    return next((unit for limit, unit in EPOCHS if size < limit), 1.0)


def _unit(dtype: np.dtype[Any]) -> float:
    name, count = np.datetime_data(dtype)
    return UNITS.get(name, 86400.0) * count


def _texts(stamps: Array) -> list[str]:
    return [str(stamp).strip(QUOTES) for stamp in stamps]


def _clock(stamps: Array) -> Array:
    import pandas as pd

    texts = [text.replace(",", ".") for text in _texts(stamps)]
    whole = [text if text.count(":") == 2 else f"0:{text}" for text in texts]
    return np.asarray(pd.to_timedelta(whole).as_unit("ns").asi8)


def _dates(stamps: Array) -> Array:
    import pandas as pd

    texts = [text.replace("/", "-") for text in _texts(stamps)]
    try:
        return np.asarray(pd.to_datetime(texts, format="ISO8601", utc=True).as_unit("ns").asi8)
    except ValueError as error:
        raise InputError(
            f"'{texts[0]}' is no time stamp: seconds, 2024-01-31T12:00:00.5 or 12:00:00.5 are"
        ) from error
