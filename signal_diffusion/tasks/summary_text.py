"""What a summary says to people: tables, and notes on what looks like a mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from signal_diffusion.tasks.measures import METRICS
from signal_diffusion.tasks.summary import MOST_SHOWN, Rows, by_column

#: Deviations of the reference by which the middle of the offsets may differ from 0 without a note.
OFFSET = 0.1
#: dB by which the middle of the gains may differ from 1 without a note.
GAIN = 1.0


class Column(Protocol):
    """How a score is shown: `measures.Metric`, or one of a set."""

    @property
    def heading(self) -> str: ...

    def shown(self, score: float, *, sign: str = "") -> str: ...


def notes(rows: Rows) -> list[str]:
    """What looks like a mistake in a method, or could not be scored, in lines."""
    lines = _left_out(rows)
    for name, some in by_column(rows, "method").items():
        lines += [f"{name}: {line}" for line in _oddities(some)]
    return lines


def _left_out(rows: Rows) -> list[str]:
    """A line on readings that are missing in the recordings, whatever the method."""
    count = {row["file"]: row["unscored"] for row in rows if row["unscored"]}
    if not count:
        return []
    files = len({row["file"] for row in rows})
    total = sum(count.values())
    return [f"{total} missing readings in {len(count)} of {files} files are not scored"]


def _oddities(rows: Rows) -> list[str]:
    done = [row for row in rows if row["error"] is None]
    heard = [row for row in done if row["lag"] is not None]
    lags = [row["lag"] for row in heard if row["lag"]]
    gain = float(np.median([row["gain_db"] for row in heard])) if heard else 0.0
    offset = float(np.median([row["offset"] for row in heard])) if heard else 0.0
    turned = sum(row["polarity"] < 0 for row in heard)
    told = [row["channels"] for row in done if row["channels"] is not None]
    moved = sum(channels != _own(channels) for channels in told)
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


def _own(channels: str) -> str:
    """Channels in their own order, as many as there are."""
    return " ".join(str(n + 1) for n in range(len(channels.split())))


def markdown(
    told: Mapping[str, Any], metrics: Sequence[str], columns: Mapping[str, Column] = METRICS
) -> str:
    """The tables of a summary: methods, differences, and groups, means with their intervals.

    Args:
        told: of `summary.summary`.
        metrics: what is shown, by name.
        columns: how each is shown.
    """
    head = [columns[metric].heading for metric in metrics]
    cells = partial(_cells, shown=[(metric, columns[metric]) for metric in metrics])
    parts = [
        _table(["", "files", *head, "real-time factor", "peak MB"], [
            [name, str(row["files"]), *cells(row["scores"]),
             _number(row["real_time_factor"], 4), _number(row["peak_memory_mb"], 0)]
            for name, row in told["methods"].items()
        ]),
    ]  # fmt: skip
    if told["differences"]:
        parts += [f"Differences to {told['compared_with']}, file by file:"]
        lines = [[k, *cells(row, sign="+")] for k, row in told["differences"].items()]
        parts += [_table(["", *head], lines)]
    for group, values in told["groups"].items():
        if len(values) <= MOST_SHOWN:
            lines = [
                [value, name, *cells(row)]
                for value, rows in values.items()
                for name, row in rows.items()
            ]
            parts += [_table([group, "", *head], lines)]
    return "\n\n".join(parts)


def _cells(
    scores: Mapping[str, Mapping[str, float]],
    *,
    shown: Sequence[tuple[str, Column]],
    sign: str = "",
) -> list[str]:
    """Means, with the ends of their intervals."""
    return [_cell(column, scores.get(metric), sign) for metric, column in shown]


def _cell(column: Column, found: Mapping[str, float] | None, sign: str) -> str:
    if found is None:
        return ""
    mean, *ends = (
        column.shown(found[key], sign=sign) for key in ("mean", "low", "high") if key in found
    )
    return f"{mean} ({' to '.join(ends)})" if ends else mean


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))
