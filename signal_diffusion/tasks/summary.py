"""What many scores say: means and intervals, differences, by group, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]

RESAMPLES = 1000
#: Index values that are held at once.
DRAWN = 1 << 20
#: Groups of more values are in the JSON alone.
MOST_SHOWN = 20


def interval(values: Array, units: Sequence[str], *, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of the mean of values (n,), as percentiles of resampled means.

    None where all belong to one unit, which tells nothing of others.

    Args:
        units: what each value belongs to: these are resampled, since mixes of one recording at
            several SNRs, say, are not independent.
        seed: of the resampling.

    Efron (1979), "Bootstrap methods: another look at the jackknife".

    >>> interval(np.arange(100.0), [str(n) for n in range(100)])   # 49.5 -+ 1.96 * 28.9 / 10
    (43.9, 54.9)
    """
    _, places = np.unique(np.asarray(units), return_inverse=True)
    counts = np.bincount(places).astype(np.float64)
    if len(counts) < 2:
        return None
    sums = np.bincount(places, weights=values)
    rng, many = np.random.default_rng(seed), max(1, DRAWN // len(sums))
    means: list[float] = []
    while len(means) < RESAMPLES:
        picks = rng.integers(len(sums), size=(min(many, RESAMPLES - len(means)), len(sums)))
        means += (sums[picks].sum(1) / counts[picks].sum(1)).tolist()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def statistics(values: Sequence[float], units: Sequence[str], *, seed: int = 0) -> dict[str, float]:
    """Mean, median, the ends of the mean's interval if it has one, and the number of values."""
    array = np.asarray(values, np.float64)
    found = {"mean": array.mean(), "median": np.median(array)}
    ends = interval(array, units, seed=seed)
    if ends is not None:
        found |= {"low": ends[0], "high": ends[1]}
    return {**{k: round(float(v), 6) for k, v in found.items()}, "count": len(array)}


def scores_of(rows: Rows, metrics: Sequence[str], *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Statistics of each metric over rows, of those that have a value."""
    found = {}
    for metric in metrics:
        some = [row for row in rows if row[metric] is not None]
        if some:
            values, units = [row[metric] for row in some], [row["recording"] for row in some]
            found[metric] = statistics(values, units, seed=seed)
    return found


def differences(
    rows: Rows, others: Rows, metrics: Sequence[str], *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Statistics of rows' scores less those of other rows on the same files."""
    known = {row["file"]: row for row in others}
    paired = [
        {**row, **{metric: _less(row[metric], known[row["file"]][metric]) for metric in metrics}}
        for row in rows
    ]
    return scores_of(paired, metrics, seed=seed)


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def summary(
    rows: Rows, model: str, metrics: Sequence[str], groups: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Everything that the tables show, as plain values for JSON.

    Args:
        rows: of `evaluation.evaluate`, with the columns of the groups besides.
        model: name of the method that all others are subtracted from.
        metrics, groups: names of columns.
        seed: of the bootstrap.
    """
    of = by_column(rows, "method")
    return {
        "methods": {name: _method(some, metrics, seed) for name, some in of.items()},
        "compared_with": model,
        "differences": {
            name: differences(some, of[model], metrics, seed=seed)
            for name, some in of.items()
            if name != model
        },
        "groups": {
            group: {
                value: {
                    name: scores_of(few, metrics, seed=seed)
                    for name, few in by_column(some, "method").items()
                }
                for value, some in sorted(by_column(rows, group).items(), key=_order)
            }
            for group in groups
        },
    }


def by_column(rows: Rows, column: str) -> dict[str, list[Mapping[str, Any]]]:
    """Rows by the value of a column, in the order in which the values come."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        parts.setdefault(row[column], []).append(row)
    return parts


def _order(item: tuple[str, Any]) -> tuple[bool, float, str]:
    """Numbers by their size, then words."""
    try:
        return False, float(item[0]), ""
    except ValueError:
        return True, 0.0, item[0]


def _method(rows: Rows, metrics: Sequence[str], seed: int) -> dict[str, Any]:
    done = [row for row in rows if row["error"] is None]
    timed = [row for row in done if row["taken"] is not None]
    seconds = sum(row["seconds"] for row in timed)
    memory = [row["memory"] for row in done if row["memory"] is not None]
    return {
        "scores": scores_of(rows, metrics, seed=seed),
        "files": len(done),
        "failed": len(rows) - len(done),
        "real_time_factor": round(sum(r["taken"] for r in timed) / seconds, 5) if timed else None,
        "peak_memory_mb": round(max(memory) / 1e6, 1) if memory else None,
    }
