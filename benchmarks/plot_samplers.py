"""The table and the picture of what `sampling_steps.py` measured: quality against network calls.

    python benchmarks/plot_samplers.py --results results/samplers.json --page docs/results.md \\
        --plot docs/samplers.png

A second on a laptop; scores are those of the file. Expect a panel for each task, with a curve for
each sampler and a ring where the default is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.result_tables import insert_table

from signal_diffusion.evaluation.benchmark import EVERY
from signal_diffusion.evaluation.benchmark_report import COLOURS
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.files import atomic
from signal_diffusion.plots.spectrograms import DRAWING, as_png, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
#: By task: the default sampler, its calls and, of generators, the guidance.
Defaults = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Measure:
    """A score of a task: what it is called, whether more is better, how it is printed."""

    task: str
    name: str
    label: str
    best: Callable[..., Any] = max
    form: str = ".2f"
    drawn: bool = True


MEASURES = (
    Measure("digits", "frechet_features", "digits: Fréchet distance, features", min, ".1f"),
    Measure("digits", "frechet_log_mel", "log-mel", min, ".3f", drawn=False),
    Measure("digits", "recognised", "recognised", max, ".1%", drawn=False),
    Measure("vocoder", "pesq", "vocoder: PESQ"),
    Measure("vocoder", "estoi", "ESTOI", max, ".1f", drawn=False),
    Measure("speech", "pesq", "speech: PESQ"),
    Measure("speech", "si_sdr", "SI-SDR, dB", max, ".1f", drawn=False),
)


def table(rows: Sequence[Row], defaults: Defaults) -> str:
    """The best sampler at each number of calls, with the default in bold, and pulls of guidance."""
    budgets = sorted({row["budget"] for row in rows if "budget" in row})
    head = ["best of the samplers at", *map(_calls, budgets)]
    lines = [
        [measure.label, *(_cell(measure, rows, defaults, budget) for budget in budgets)]
        for measure in MEASURES
    ]
    return markdown_table(head, lines) + "\n\n" + _of_guidance(rows, defaults)


def _calls(budget: int) -> str:
    return f"{budget} call" if budget == 1 else f"{budget} calls"


def _cell(measure: Measure, rows: Sequence[Row], defaults: Defaults, budget: int) -> str:
    """The best at a number of calls, and the default beside it."""
    subset = [row for row in at_default_guidance(rows, measure.task, defaults)]
    subset = [row for row in subset if row["budget"] == budget]
    if not subset:
        return ""
    best = measure.best(subset, key=lambda row: row[measure.name])
    words = [_shown(measure, best)]
    usual = usual_of(subset, defaults[measure.task])
    if usual is not None:
        words = ([] if usual is best else words) + [f"**{_shown(measure, usual)}**"]
    return ", ".join(words)


def _shown(measure: Measure, row: Row) -> str:
    number = format(row[measure.name], measure.form)
    return number if row["sampler"] == EVERY else f"{number} {row['sampler']}"


def at_default_guidance(rows: Sequence[Row], task: str, defaults: Defaults) -> list[Row]:
    """The rows of a task that differ in the sampler and its calls alone."""
    guidance = defaults[task].get("guidance")
    subset = [row for row in rows if row["task"] == task and "budget" in row]
    return [row for row in subset if row.get("guidance") == guidance]


def usual_of(rows: Sequence[Row], default: Mapping[str, Any]) -> Row | None:
    """The row of the default sampler and calls, where it is among them."""
    subset = [row for row in rows if row["budget"] == default["calls"]]
    return next((row for row in subset if row["sampler"] in (EVERY, default["sampler"])), None)


def _of_guidance(rows: Sequence[Row], defaults: Defaults) -> str:
    """Scores of digits by the pull of their conditions, at the default sampler and calls."""
    usual = defaults["digits"]
    subset = [row for row in rows if row["task"] == "digits" and row["sampler"] == usual["sampler"]]
    subset = [row for row in subset if row["budget"] == usual["calls"]]
    subset = sorted(subset, key=lambda row: row["guidance"])
    real = next(row for row in rows if row["sampler"] == "real")
    heads = [f"{row['guidance']:g}" for row in subset]
    heads = [f"**{head}**" if float(head) == usual["guidance"] else head for head in heads]
    lines = []
    for measure in MEASURES[:3]:
        label = measure.label.removeprefix("digits: ")
        cells = [format(row[measure.name], measure.form) for row in [*subset, real]]
        lines.append([label, *cells])
    spread = [row["diversity_features"] / real["diversity_features"] for row in [*subset, real]]
    lines.append(["diversity, features", *(f"{x:.2f}" for x in spread)])
    return markdown_table(["digits by guidance", *heads, "real, unseen"], lines)


def draw(path: Path, rows: Sequence[Row], defaults: Defaults) -> None:
    """Draw a panel for each task and a curve for each sampler into a PNG file."""
    from matplotlib.figure import Figure

    require_matplotlib()
    with DRAWING:
        figure = Figure(figsize=(9, 3.2), dpi=100, layout="constrained")
        drawn = [measure for measure in MEASURES if measure.drawn]
        for axes, measure in zip(figure.subplots(1, len(drawn)), drawn, strict=True):
            _panel(axes, measure, at_default_guidance(rows, measure.task, defaults), defaults)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
        atomic.write(path, as_png(figure))


def _panel(axes: Axes, measure: Measure, rows: Sequence[Row], defaults: Defaults) -> None:
    budgets = sorted({row["budget"] for row in rows})
    for name, colour in COLOURS.items():
        subset = [row for row in rows if row["sampler"] in (EVERY, name)]
        subset = sorted(subset, key=lambda row: row["calls"])
        calls, scores = zip(*((row["calls"], row[measure.name]) for row in subset), strict=True)
        axes.plot(calls, scores, color=colour, marker=".", lw=1.2, label=name)
    usual = usual_of(rows, defaults[measure.task])
    assert usual is not None
    axes.plot(
        usual["calls"], usual[measure.name], "o", ms=10, mfc="none", mec="black", label="default"
    )
    if measure.best is min:
        # A sampler that does worse than one call runs off the picture.
        once = max(row[measure.name] for row in rows if row["calls"] == 1)
        axes.set_yscale("log")
        axes.set_ylim(top=1.2 * once)
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(n) for n in budgets])
    axes.set_title(measure.label, loc="left", fontsize=11)
    axes.set_xlabel("network calls")
    axes.grid(alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results/samplers.json"))
    parser.add_argument("--page", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(arguments)
    found = json.loads(options.results.read_text(encoding="utf-8"))
    print(table(found["rows"], found["defaults"]))
    if options.page:
        insert_table(options.page, "samplers", table(found["rows"], found["defaults"]))
    if options.plot:
        draw(options.plot, found["rows"], found["defaults"])


if __name__ == "__main__":
    main()
