"""The picture of a benchmark: quality and time by calls of the network, and by each other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signal_diffusion.pictures import INPUT, REMOVED, RESULT
from signal_diffusion.plots import DRAWING, as_png, require_matplotlib
from signal_diffusion.recordings.partials import beside, failures, require_writable
from signal_diffusion.tasks.budgets import EVERY
from signal_diffusion.tasks.measures import METRICS
from signal_diffusion.tasks.report_words import direction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

#: Of the samplers; others are grey.
COLOURS = {
    "ddim": RESULT, "ddpm": REMOVED, "few_step": INPUT, "heun": "#3f7d20", "dpmpp_2m": "#8a3ffc",
}  # fmt: skip
GREY = "#777777"
#: Lines of the settings, over and over.
STYLES = ("-", "--", ":", "-.")


def setting(row: Row) -> str:
    """Threads and pieces of a row, in words.

    >>> setting({"threads": 2, "piece": 5.0})
    '2 threads, pieces of 5 s'
    """
    words = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
    return words if row["piece"] is None else f"{words}, pieces of {row['piece']:g} s"


def draw_benchmark(
    path: Path, rows: Sequence[Row], measures: Sequence[str], given: Row, title: str
) -> None:
    """Draw quality against calls and time, and time against calls, into a PNG file.

    Args:
        path: of the PNG, which is replaced.
        rows: of speed, with the scores of their sampler and calls, see `benchmarking.joined`.
        measures: names of the scores, of which the first is drawn; none draws the time alone.
        given: scores of the input, where it has some.
        title: above all: the model, and where it was measured.

    Raises:
        InputError: it can't be written, or matplotlib is missing.
    """
    require_matplotlib()
    with DRAWING:
        figure = _figure(rows, measures[:1], given)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        save(path, figure)


def save(path: Path, figure: Figure) -> None:
    """Write a figure to a PNG file, which appears whole.

    Raises:
        InputError: it can't be written.
    """
    require_writable(path, force=True)
    picture = as_png(figure)
    with beside(path) as partial, failures(path):
        partial.write_bytes(picture)
        os.replace(partial, path)


def curves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each sampler by their calls, with those that stand for every one."""
    names = [name for name in dict.fromkeys(row["sampler"] for row in rows) if name != EVERY]
    return {
        name: sorted(
            (row for row in rows if row["sampler"] in (EVERY, name)), key=lambda row: row["calls"]
        )
        for name in names or [EVERY]
    }


def _figure(rows: Sequence[Row], measures: Sequence[str], given: Row) -> Figure:
    from matplotlib.figure import Figure

    count = 1 + 2 * len(measures)
    figure = Figure(figsize=(1 + 3.6 * count, 4.1), dpi=100, layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    first = [row for row in rows if setting(row) == setting(rows[0])]
    for name in measures:
        some = [row for row in first if row.get(name) is not None]
        _quality(panels[0], some, name, "calls", given)
        _quality(panels[1], some, name, "real_time_factor", given)
        panels[1].set_xlabel(f"real-time factor, {setting(rows[0])}")
        panels[1].set_title("the same against time", loc="left", fontsize=11)
    _times(panels[-1], rows)
    handles, labels = panels[0].get_legend_handles_labels()
    if measures:
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    return figure


def _quality(axes: Axes, rows: Sequence[Row], name: str, by: str, given: Row) -> None:
    """One curve for each sampler, and a line where the input is."""
    shown = METRICS[name]
    for sampler, some in curves(rows).items():
        places, scores = [row[by] for row in some], [shown.scale * row[name] for row in some]
        colour = COLOURS.get(sampler, GREY)
        axes.plot(places, scores, color=colour, marker=".", lw=1.2, label=sampler)
    if given.get(name) is not None:
        label = "input, as it came"
        axes.axhline(shown.scale * given[name], color="black", lw=0.8, ls=":", label=label)
    title = f"{shown.heading}, {direction(name)}"
    axes.set_title(title, loc="left", fontsize=11)
    if by == "calls":
        _by_calls(axes, rows)
    else:
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)


def _times(axes: Axes, rows: Sequence[Row]) -> None:
    """One line for each setting, of the first sampler that there is."""
    for place, name in enumerate(dict.fromkeys(setting(row) for row in rows)):
        sampler, some = next(iter(curves([r for r in rows if setting(r) == name]).items()))
        axes.plot(
            [row["calls"] for row in some], [row["real_time_factor"] for row in some],
            color=COLOURS.get(sampler, GREY), ls=STYLES[place % len(STYLES)], marker=".", lw=1.2,
            label=name,
        )  # fmt: skip
    of = "" if sampler == EVERY else f" of {sampler}"
    title = f"real-time factor{of}; at 1, real time"
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)
    _by_calls(axes, rows)


def _by_calls(axes: Axes, rows: Sequence[Row]) -> None:
    budgets = sorted({row["budget"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(n) for n in budgets])
    axes.set_xlabel("network calls")
    axes.grid(alpha=0.3)
