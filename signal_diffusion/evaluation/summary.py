"""Summaries of scores: means and confidence intervals, differences, groups, and their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.evaluation.measures import METRICS, Metric

Rows = Sequence[Mapping[str, Any]]


RESAMPLES = 1000
#: Index values that are held at once.
DRAWN = 1 << 20
#: Groups of more values are in the JSON alone.
MOST_SHOWN = 20


def interval(values: Array, units: Sequence[str], *, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of the mean of values (n,), as percentiles of resampled means.

    None where all belong to one unit.

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
        subset = [row for row in rows if row[metric] is not None]
        if subset:
            values, units = [row[metric] for row in subset], [row["recording"] for row in subset]
            found[metric] = statistics(values, units, seed=seed)
    return found


def differences(
    rows: Rows, others: Rows, metrics: Sequence[str], *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Statistics of rows' scores less those of other rows on the same files."""
    by_file = {row["file"]: row for row in others}
    paired = []
    for row in rows:
        both = {metric: (row[metric], by_file[row["file"]][metric]) for metric in metrics}
        less = {metric: None if None in x else x[0] - x[1] for metric, x in both.items()}
        paired.append({**row, **less})
    return scores_of(paired, metrics, seed=seed)


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
        "methods": {name: _method(subset, metrics, seed) for name, subset in of.items()},
        "compared_with": model,
        "differences": {
            name: differences(subset, of[model], metrics, seed=seed)
            for name, subset in of.items()
            if name != model
        },
        "groups": {
            group: {
                value: {
                    name: scores_of(few, metrics, seed=seed)
                    for name, few in by_column(subset, "method").items()
                }
                for value, subset in sorted(by_column(rows, group).items(), key=_order)
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


#: Deviations of the reference by which the middle of the offsets may differ from 0 without a note.
OFFSET = 0.1
#: dB by which the middle of the gains may differ from 1 without a note.
GAIN = 1.0


def notes(rows: Rows) -> list[str]:
    """Lines on likely mistakes in a method, and on what could not be scored."""
    lines = []
    if count := {row["file"]: row["unscored"] for row in rows if row["unscored"]}:
        total, files = sum(count.values()), len({row["file"] for row in rows})
        lines = [f"{total} missing readings in {len(count)} of {files} files are not scored"]
    for name, subset in by_column(rows, "method").items():
        lines += [f"{name}: {line}" for line in _oddities(subset)]
    return lines


def _oddities(rows: Rows) -> list[str]:
    done = [row for row in rows if row["error"] is None]
    aligned = [row for row in done if row["lag"] is not None]
    lags = [row["lag"] for row in aligned if row["lag"]]
    gain = float(np.median([row["gain_db"] for row in aligned])) if aligned else 0.0
    offset = float(np.median([row["offset"] for row in aligned])) if aligned else 0.0
    turned = sum(row["polarity"] < 0 for row in aligned)
    orders = [row["channels"].split() for row in done if row["channels"] is not None]
    moved = sum(order != [f"{n + 1}" for n in range(len(order))] for order in orders)
    unscored = [row["note"] for row in done if row["note"] is not None]
    found = {
        f"{len(rows) - len(done)} of {len(rows)} files failed": len(done) < len(rows),
        f"late by {np.median(lags or [0]):g} samples in {len(lags)} of {len(done)} files": lags,
        f"gain of {gain:+.1f} dB": abs(gain) > GAIN,
        f"offset of {offset:+.2g} deviations of the reference": abs(offset) > OFFSET,
        f"upside down in {turned} of {len(done)} files": turned,
        f"channels exchanged in {moved} of {len(done)} files": moved,
        f"{len(unscored)} files lack a score ({(unscored or [''])[0]})": unscored,
    }
    return [line for line, odd in found.items() if odd]


def markdown(
    found: Mapping[str, Any], metrics: Sequence[str], columns: Mapping[str, Metric] = METRICS
) -> str:
    """The tables of a summary: methods, differences, and groups, means with their intervals.

    Args:
        found: result of `summary`.
        metrics: what is shown, by name.
        columns: how each is shown.
    """
    head = [columns[metric].heading for metric in metrics]

    def cells(scores: Mapping[str, Mapping[str, float]], sign: str = "") -> list[str]:
        return [_cell(columns[metric], scores.get(metric), sign) for metric in metrics]

    lines = [
        [
            name,
            row["files"],
            *cells(row["scores"]),
            _number(row["real_time_factor"], 4),
            _number(row["peak_memory_mb"], 0),
        ]
        for name, row in found["methods"].items()
    ]
    parts = [markdown_table(["", "files", *head, "real-time factor", "peak MB"], lines)]
    if found["differences"]:
        parts += [f"Differences to {found['compared_with']}, file by file:"]
        lines = [[k, *cells(row, sign="+")] for k, row in found["differences"].items()]
        parts += [markdown_table(["", *head], lines)]
    for group, values in found["groups"].items():
        if len(values) <= MOST_SHOWN:
            lines = [
                [value, name, *cells(row)]
                for value, rows in values.items()
                for name, row in rows.items()
            ]
            parts += [markdown_table([group, "", *head], lines)]
    return "\n\n".join(parts)


def _cell(column: Metric, found: Mapping[str, float] | None, sign: str) -> str:
    if found is None:
        return ""
    mean, *ends = (
        column.shown(found[key], sign=sign) for key in ("mean", "low", "high") if key in found
    )
    return f"{mean} ({' to '.join(ends)})" if ends else mean


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1) -> str:
    """A table in Markdown, whose first columns are words and whose others are numbers.

    >>> print(markdown_table(["", "SNR dB"], [["input", 1.5]]))
    |  | SNR dB |
    | --- | ---: |
    | input | 1.5 |
    """
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    lines = [[str(cell).replace("|", "\\|") for cell in cells] for cells in (head, rule, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
