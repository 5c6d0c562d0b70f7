"""Which columns of a table are signals, and which of their readings are no readings.

A denoiser would overwrite time stamps, counters, labels and heart rates like any other numbers, and
a few readings of -9999 would set the scale of all the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.tables.columns import Source

#: Readings that it takes to tell a column from a signal.
FEWEST = 50
#: Share of the steps against its direction that a rising column may have.
AGAINST = 1e-3
#: Rows that a column of steps stays at a value, in the mean.
RUN = 20
#: Readings that quantiles are taken of, at most.
SAMPLE = 1 << 16
#: Quantile of the distances from the median that is the spread: of 30 % faults still the signal's.
QUANTILE = 0.6
#: Spreads from the median by which a reading stands out; and by which the lowest or highest value
#: does where so many readings in a row have it, as at the rail of a converter, or where it is one
#: of `CODES` and twice as far from the median as the next value.
APART, ODD, IN_A_ROW = 500.0, 15.0, 50
#: Numbers that loggers write for no reading, or that end the range of a converter.
CODES = frozenset([-1.0, 0.0]).union(
    *({2.0**bits, -(2.0**bits), 2.0**bits - 1, 1 - 2.0**bits} for bits in range(8, 33)),
    *({code, -code} for code in (99.0, 999.0, 9999.0, 99999.0, 999.25, 999.9, 9999.9)),
)
#: What stands for no unit, or for the numbers of a converter.
ANY_UNIT = r"|nu|n\.?u\.?|adu?|a\.?u\.?|arb.*|raw|counts?|lsb|dimensionless"
VOLTS = r"[numkµμ]?v(olts?)?|(micro|milli)volts?"


@dataclass(frozen=True)
class Kind:
    """The columns that a domain's models may change.

    Attributes:
        units: what their units look like; a column without a unit may be one.
        others: words in the names of columns that are something else.
    """

    units: re.Pattern[str]
    others: frozenset[str]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: By the domain of the model; models of other domains may change everything.
KINDS: Mapping[str, Kind] = {
    "ecg": Kind(
        re.compile(rf"(?i){VOLTS}{ANY_UNIT}"),
        _words(
            "resp respiration respiratory breathing pleth plethysmogram ppg abp art bp nbp cvp "
            "pap icp pressure spo2 sao2 o2 co2 etco2 hr heartrate rate pulse temp temperature acc "
            "accel acceleration gyro mag eeg emg eog gsr eda battery quality label marker event "
            "annotation"
        ),
    ),
    "vibration": Kind(
        re.compile(rf"(?i)m?g|[mµμun]?m(/s(ec)?(\^?2|²|\*\*2|/s)?)?|in/s|ips|{VOLTS}{ANY_UNIT}"),
        _words(
            "temp temperature rpm speed load torque pressure flow power humidity battery label "
            "marker event annotation"
        ),
    ),
}


@dataclass(frozen=True)
class Survey:
    """What a pass through a table shows of its columns of numbers.

    Attributes:
        reasons: by the place of each column that is no signal, why.
        limits: by the place of each signal, the lowest and the highest of its readings; what lies
            beyond stands for a missing one.
    """

    reasons: dict[int, str]
    limits: dict[int, tuple[float, float]]


def survey(source: Source, places: Sequence[int], domain: str) -> Survey:
    """Read a table once to tell signals from other columns, and readings from faults.

    Args:
        source: the table.
        places: the columns of numbers to look at.
        domain: of the model that is to change them, see `KINDS`.
    """
    columns = {at: _Column() for at in places}
    for block in source.blocks(places):
        for at, column in columns.items():
            column.push(np.asarray(block.columns[at], np.float64))
    reasons = {
        at: column.reason() or misfit(source.names[at], source.units[at], domain)
        for at, column in columns.items()
    }
    limits = {at: column.limits() for at, column in columns.items() if not reasons[at]}
    return Survey({at: reason for at, reason in reasons.items() if reason}, limits)


def misfit(name: str, unit: str, domain: str) -> str:
    """Why a column is nothing for a model of a domain by its name and unit, "" if it may be.

    >>> misfit("ABP", "mmHg", "ecg"), misfit("II", "mV", "ecg"), misfit("RESP", "mV", "ecg")
    ('unit mmHg', '', 'no ecg by its name')
    """
    kind = KINDS.get(domain)
    if kind is None:
        return ""
    if unit and not kind.units.fullmatch(unit.strip()):
        return f"unit {unit.strip()}"
    words = re.findall(r"[a-z]+\d*", re.sub(r"[(\[].*", "", name).lower())
    return f"no {domain} by its name" if kind.others.intersection(words) else ""


class _End:
    """The lowest of some readings, block by block, or with a sign of -1 the highest."""

    def __init__(self, sign: float) -> None:
        self._sign, self._lowest, self._next = sign, np.inf, np.inf
        # Readings of that value in a row: at the end of the last block, and most of all.
        self._running = self._most = 0

    def push(self, values: Array) -> None:
        """Append readings (n,), one at least."""
        values = self._sign * values
        if values.min() < self._lowest:
            self._lowest, self._next = values.min(), self._lowest
            self._most = self._running = 0
        others = np.flatnonzero(values != self._lowest)
        self._next = values[others].min(initial=self._next)
        runs = np.diff(others, prepend=-1 - self._running, append=len(values)) - 1
        self._running, self._most = runs[-1], max(self._most, runs.max())

    def limit(self, middle: float, spread: float) -> float:
        """Where readings end, of which most lie by the spread about the middle."""
        away, gap = self._sign * middle - self._lowest, self._next - self._lowest
        code = self._sign * self._lowest in CODES and gap > away / 2
        fault = away > ODD * spread and (self._most >= IN_A_ROW or code)
        limit = max(self._sign * middle - APART * spread, self._lowest if fault else -np.inf)
        return self._sign * float(np.nextafter(limit, np.inf))


class _Column:
    """What a column of numbers shows, block by block."""

    def __init__(self) -> None:
        self._count = self._rises = self._falls = 0
        self._last = np.zeros(0)
        self._distinct: set[float] = set()
        # Of a counter that begins again and again: its step, and the value where it begins.
        self._step = self._start = np.nan
        self._counts = True
        self._every, self._sample = 1, np.zeros(0)
        self._ends = (_End(1.0), _End(-1.0))

    def push(self, values: Array) -> None:
        """Append readings (n,)."""
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self._thin(values)
        self._count += len(values)
        if len(self._distinct) < 3:
            self._distinct.update(np.unique(values)[:3].tolist())
        for end in self._ends:
            end.push(values)
        values = np.append(self._last, values)
        self._last = values[-1:]
        steps = np.diff(values)
        self._rises += int((steps > 0).sum())
        self._falls += int((steps < 0).sum())
        if self._counts:
            self._count_over(values, steps)

    def reason(self) -> str:
        """Why it is no signal, "" if it is one."""
        if self._count < FEWEST:
            return ""
        if len(self._distinct) < 3:
            return ("constant", "two values")[len(self._distinct) - 1]
        moves = self._rises + self._falls
        if min(self._rises, self._falls) <= AGAINST * moves:
            return "rising" if self._rises > self._falls else "falling"
        if self._counts:
            return "a counter"
        return "steps" if RUN * moves < self._count else ""

    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value that are readings."""
        if self._count < FEWEST:
            return -np.inf, np.inf
        middle = float(np.median(self._sample))
        distances = np.abs(self._sample - middle)
        # Of a signal that mostly rests, the rest is no measure.
        moving = distances[distances > 0] if np.median(distances) == 0 else distances
        spread = float(np.quantile(moving, QUANTILE)) if len(moving) else np.inf
        low, high = (end.limit(middle, spread) for end in self._ends)
        return low, high

    def _thin(self, values: Array) -> None:
        """Keep some of the readings, evenly spread."""
        self._sample = np.append(self._sample, values[-self._count % self._every :: self._every])
        while len(self._sample) > SAMPLE:
            self._sample, self._every = self._sample[::2], 2 * self._every

    def _count_over(self, values: Array, steps: Array) -> None:
        up, down = steps > 0, steps < 0
        if np.isnan(self._step) and up.any():
            self._step = steps[up][0]
        if np.isnan(self._start) and down.any():
            self._start = values[1:][down][0]
        even = (steps[up] == self._step).all() and (values[1:][down] == self._start).all()
        self._counts = bool(even and not (steps == 0).any())
