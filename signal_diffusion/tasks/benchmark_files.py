"""The report of a benchmark: a folder with its rows, a table and a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signal_diffusion.errors import InputError
from signal_diffusion.recordings.partials import beside, failures
from signal_diffusion.results import write_results
from signal_diffusion.tasks.benchmark_pictures import draw_benchmark, setting
from signal_diffusion.tasks.benchmarking import INPUT, QUALITY, SPEED, TRAINING, joined
from signal_diffusion.tasks.budgets import EVERY
from signal_diffusion.tasks.measures import METRICS
from signal_diffusion.tasks.memorisation_files import require_folder

Row = Mapping[str, Any]

ROWS, FIGURES, TABLE, PICTURE = (
    "rows.jsonl", "benchmark.json", "benchmark.md", "benchmark.png",
)  # fmt: skip


def begin(folder: Path, *, force: bool, resume: bool) -> Path:
    """Make the folder of a report, and tell where its rows are kept.

    Args:
        folder: new or there.
        force: forget the rows of an earlier run, and replace its report.
        resume: go on from them.

    Raises:
        InputError: it can't be made, or holds a report already.
    """
    if (folder / ROWS).exists() and not (force or resume):
        raise InputError(
            f"{folder / ROWS} exists: pass --resume to go on from it, or --force to begin anew"
        )
    names = (FIGURES, TABLE, PICTURE)
    require_folder(folder, force=force or resume, names=names)
    with failures(folder):
        folder.mkdir(exist_ok=True)
        if not resume:
            (folder / ROWS).unlink(missing_ok=True)
    return folder / ROWS


def write_benchmark(
    folder: Path,
    rows: Sequence[Row],
    measures: Sequence[str],
    *,
    command: str,
    told: Mapping[str, Any],
    picture: bool = True,
) -> str:
    """Write figures, table and picture into a folder; each appears whole.

    Args:
        folder: of the report, see `begin`.
        rows: what was measured.
        measures: names of the scores in them.
        command: that makes the same.
        told: what else the figures are to tell, such as the model.
        picture: draw one, which needs matplotlib.

    Returns:
        The table, in Markdown, and what it means.

    Raises:
        InputError: something can't be written.
    """
    text = f"{table(rows, measures)}\n\n{explained(rows, told)}"
    write_results(folder / FIGURES, command, **told, measures=list(measures), rows=list(rows))
    path = folder / TABLE
    with beside(path) as partial, failures(path):
        partial.write_text(f"`{command}`\n\n{text}\n", encoding="utf-8")
        os.replace(partial, path)
    if picture:
        title = f"{Path(told['name']).name} on {told['machine']} ({told['device']})"
        draw_benchmark(folder / PICTURE, joined(rows, measures), measures, inputs(rows), title)
    return text


def inputs(rows: Sequence[Row]) -> Row:
    """The scores of what came, where there are some."""
    some = (row for row in rows if row["kind"] == QUALITY and row["sampler"] == INPUT)
    return next(some, {})


def table(rows: Sequence[Row], measures: Sequence[str]) -> str:
    """Scores and real-time factors of each sampler and number of calls, in Markdown.

    A real-time factor is in a column for each number of threads and length of pieces.
    """
    speeds = joined(rows, measures)
    settings = list(dict.fromkeys(setting(row) for row in speeds))
    heads = ["", "calls", *(METRICS[name].heading for name in measures)]
    heads += [f"real-time factor, {name}" for name in settings]
    lines = [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    if inputs(rows):
        scores = [_score(name, inputs(rows)) for name in measures]
        lines.append(_line([INPUT, "", *scores, *[""] * len(settings)]))
    ways = dict.fromkeys((row["sampler"], row["calls"]) for row in speeds)
    for sampler, calls in ways:
        some = [row for row in speeds if (row["sampler"], row["calls"]) == (sampler, calls)]
        factors = {setting(row): f"{row['real_time_factor']:.4f}" for row in some}
        scores = [_score(name, some[0]) for name in measures]
        cells = [factors.get(name, "") for name in settings]
        lines.append(_line([sampler, str(calls), *scores, *cells]))
    return "\n".join([*lines, *_of_training(rows)])


def explained(rows: Sequence[Row], told: Mapping[str, Any]) -> str:
    """What the table's words mean, and what it was measured on, in lines."""
    timed = [row for row in rows if row["kind"] == SPEED]
    lines = []
    if timed:
        repeats = timed[0]["repeats"]
        runs = "one run" if repeats == 1 else f"the quickest of {repeats} runs"
        lines.append(
            f"Real-time factor: seconds of work for a second of signal, of {runs} over "
            f"{timed[0]['seconds']:g} s, on {told['machine']} ({told['device']}); below 1 it is "
            "faster than the signal lasts."
        )
    if any(row["sampler"] == EVERY for row in timed):
        lines.append(f"{EVERY}: after so few calls of the network all samplers are the same.")
    if "files" in told:
        many = len(told["files"])
        lines.append(f"Scores: means over {many} recording{'s' * (many > 1)}; input: as it came.")
    return "\n".join(lines)


def _of_training(rows: Sequence[Row]) -> list[str]:
    """A table of the throughput of training, where it was measured."""
    some = [row for row in rows if row["kind"] == TRAINING]
    if not some:
        return []
    heads = ["training", "threads", "batch", "precision", "steps a second"]
    lines = ["", _line(heads), _line(["---", *["---:"] * 4])]
    for row in some:
        cells = [row["threads"], row["batch"], row["precision"]]
        lines.append(_line([row["training"], *map(str, cells), f"{row['steps_per_second']:.3g}"]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _score(name: str, row: Row) -> str:
    value, shown = row.get(name), METRICS[name]
    return "" if value is None else f"{shown.scale * value:.{shown.digits}f}"
