"""The report of a benchmark: a table, its explanation and a picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signal_diffusion.evaluation.benchmark import (
    EVERY,
    INPUT,
    QUALITY,
    SPEED,
    TRAINING,
)
from signal_diffusion.evaluation.measures import METRICS
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.files import atomic
from signal_diffusion.files.journal import Row
from signal_diffusion.plots.curves import INPUT as INPUT_COLOUR
from signal_diffusion.plots.curves import REMOVED, RESULT
from signal_diffusion.plots.spectrograms import DRAWING, as_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUTPUTS = FIGURES, TABLE, PICTURE = "benchmark.json", "benchmark.md", "benchmark.png"
#: Colours of the samplers; others are grey.
COLOURS = {
    "ddim": RESULT,
    "ddpm": REMOVED,
    "few_step": INPUT_COLOUR,
    "heun": "#3f7d20",
    "dpmpp_2m": "#8a3ffc",
}
GREY = "#777777"
#: Styles of the lines of settings, in turn.
STYLES = ("-", "--", ":", "-.")


def write_benchmark(folder: Path, found: Mapping[str, Any], *, command: str) -> str:
    """Write figures, table and, with matplotlib, a picture into a folder; each appears whole.

    Args:
        folder: of the report; it must exist.
        found: result of `benchmark_model`.
        command: that measures the same.

    Returns:
        The table, in Markdown, and its explanation.

    Raises:
        InputError: something can't be written.
    """
    rows, metrics = found["rows"], found["measures"]
    text = f"{table(rows, metrics)}\n\n{explanation(rows, found)}"
    write_results(folder / FIGURES, command, **found)
    atomic.write(folder / TABLE, f"`{command}`\n\n{text}\n")
    if drawable():
        title = f"{Path(found['name']).name} on {found['machine']} ({found['device']})"
        with DRAWING:
            figure = _figure(joined(rows, metrics), metrics[:1], inputs(rows))
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
            picture = as_png(figure)
        atomic.write(folder / PICTURE, picture)
    return text


def drawable() -> bool:
    """Whether a picture can be drawn here."""
    return importlib.util.find_spec("matplotlib") is not None


def joined(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """The rows of speed, each with the scores of the same sampler and calls, where there are."""
    scores = {
        (row["sampler"], row["budget"]): {name: row[name] for name in metrics if name in row}
        for row in rows
        if row["kind"] == QUALITY and row["sampler"] != INPUT
    }
    return [
        row | scores.get((row["sampler"], row["budget"]), {})
        for row in rows
        if row["kind"] == SPEED
    ]


def inputs(rows: Sequence[Row]) -> Row:
    """The scores of the input, where there are such."""
    found = (row for row in rows if row["kind"] == QUALITY and row["sampler"] == INPUT)
    return next(found, {})


def table(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Scores and real-time factors of each sampler and number of calls, in Markdown.

    A real-time factor is in a column for each number of threads and length of pieces.
    """
    speeds = joined(rows, metrics)
    settings = list(dict.fromkeys(setting(row) for row in speeds))
    heads = ["", "calls", *(METRICS[name].heading for name in metrics)]
    heads += [f"real-time factor, {name}" for name in settings]
    lines: list[list[str]] = []
    if inputs(rows):
        scores = [_score(name, inputs(rows)) for name in metrics]
        lines.append([INPUT, "", *scores, *[""] * len(settings)])
    for sampler, calls in dict.fromkeys((row["sampler"], row["calls"]) for row in speeds):
        same = [row for row in speeds if (row["sampler"], row["calls"]) == (sampler, calls)]
        factors = {setting(row): f"{row['real_time_factor']:.4f}" for row in same}
        scores = [_score(name, same[0]) for name in metrics]
        lines.append([sampler, str(calls), *scores, *(factors.get(name, "") for name in settings)])
    tables = [markdown_table(heads, lines)]
    if trained := [row for row in rows if row["kind"] == TRAINING]:
        names = ("training", "threads", "batch", "precision")
        steps = [[*(row[n] for n in names), f"{row['steps_per_second']:.3g}"] for row in trained]
        tables.append(markdown_table([*names, "steps a second"], steps))
    return "\n\n".join(tables)


def explanation(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """What the table's words mean, and what it was measured on, in lines."""
    timed = [row for row in rows if row["kind"] == SPEED]
    lines = []
    if timed:
        repeats = timed[0]["repeats"]
        runs = "one run" if repeats == 1 else f"the quickest of {repeats} runs"
        lines.append(
            f"Real-time factor: seconds of work for a second of signal, of {runs} over "
            f"{timed[0]['seconds']:g} s, on {facts['machine']} ({facts['device']}); below 1 it is "
            "faster than the signal lasts."
        )
    if any(row["sampler"] == EVERY for row in timed):
        lines.append(f"{EVERY}: after so few calls of the network all samplers are the same.")
    if "files" in facts:
        many = len(facts["files"])
        lines.append(f"Scores: means over {many} recording{'s' * (many > 1)}; input: as it came.")
    return "\n".join(lines)


def _score(name: str, row: Row) -> str:
    value = row.get(name)
    return "" if value is None else METRICS[name].shown(value)


def setting(row: Row) -> str:
    """Threads and pieces of a row, in words.

    >>> setting({"threads": 2, "piece": 5.0})
    '2 threads, pieces of 5 s'
    """
    words = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
    return words if row["piece"] is None else f"{words}, pieces of {row['piece']:g} s"


def curves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each sampler by their calls, with those that stand for every one."""
    names = [name for name in dict.fromkeys(row["sampler"] for row in rows) if name != EVERY]
    return {
        name: sorted(
            (row for row in rows if row["sampler"] in (EVERY, name)), key=lambda row: row["calls"]
        )
        for name in names or [EVERY]
    }


def _figure(rows: Sequence[Row], metrics: Sequence[str], given: Row) -> Figure:
    from matplotlib.figure import Figure

    count = 1 + 2 * len(metrics)
    figure = Figure(figsize=(1 + 3.6 * count, 4.1), dpi=100, layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    first = [row for row in rows if setting(row) == setting(rows[0])]
    for name in metrics:
        scored = [row for row in first if row.get(name) is not None]
        _quality(panels[0], scored, name, "calls", given)
        _quality(panels[1], scored, name, "real_time_factor", given)
        panels[1].set_xlabel(f"real-time factor, {setting(rows[0])}")
        panels[1].set_title("the same against time", loc="left", fontsize=11)
    _times(panels[-1], rows)
    handles, labels = panels[0].get_legend_handles_labels()
    if metrics:
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    return figure


def _quality(axes: Axes, rows: Sequence[Row], name: str, by: str, given: Row) -> None:
    """One curve for each sampler, and a line where the input is."""
    metric = METRICS[name]
    for sampler, of_sampler in curves(rows).items():
        places = [row[by] for row in of_sampler]
        scores = [metric.scale * row[name] for row in of_sampler]
        colour = COLOURS.get(sampler, GREY)
        axes.plot(places, scores, color=colour, marker=".", lw=1.2, label=sampler)
    if given.get(name) is not None:
        level = metric.scale * given[name]
        axes.axhline(level, color="black", lw=0.8, ls=":", label="input, as it came")
    axes.set_title(f"{metric.heading}, {metric.direction}", loc="left", fontsize=11)
    if by == "calls":
        _by_calls(axes, rows)
    else:
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)


def _times(axes: Axes, rows: Sequence[Row]) -> None:
    """One line for each setting, of the first sampler that there is."""
    for place, name in enumerate(dict.fromkeys(map(setting, rows))):
        same = [row for row in rows if setting(row) == name]
        sampler, of_sampler = next(iter(curves(same).items()))
        axes.plot(
            [row["calls"] for row in of_sampler],
            [row["real_time_factor"] for row in of_sampler],
            color=COLOURS.get(sampler, GREY),
            ls=STYLES[place % len(STYLES)],
            marker=".",
            lw=1.2,
            label=name,
        )
    of = "" if sampler == EVERY else f" of {sampler}"
    axes.set_title(f"real-time factor{of}; at 1, real time", loc="left", fontsize=11)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)
    _by_calls(axes, rows)


def _by_calls(axes: Axes, rows: Sequence[Row]) -> None:
    budgets = sorted({row["budget"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(n) for n in budgets])
    axes.set_xlabel("network calls")
    axes.grid(alpha=0.3)
