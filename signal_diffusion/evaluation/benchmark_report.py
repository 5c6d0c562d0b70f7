"""The report of a benchmark: a folder with its rows, a table and a picture."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.benchmark import (
    EVERY,
    INPUT,
    QUALITY,
    SPEED,
    TRAINING,
    Plan,
    Scoring,
    joined,
    quality_jobs,
    scoring_of,
    speed_jobs,
    task_of,
    told_plan,
)
from signal_diffusion.evaluation.measures import METRICS, direction
from signal_diffusion.evaluation.memorisation_report import require_folder
from signal_diffusion.evaluation.outputs import machine, write_results
from signal_diffusion.files import artifact, atomic
from signal_diffusion.files.atomic import failures
from signal_diffusion.files.journal import Job, Row, measured
from signal_diffusion.plots.curves import INPUT as INPUT_COLOUR
from signal_diffusion.plots.curves import REMOVED, RESULT
from signal_diffusion.plots.spectrograms import DRAWING, as_png, require_matplotlib
from signal_diffusion.training.runs import configuration_mistakes

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
    atomic.write(path, f"`{command}`\n\n{text}\n")
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


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Of the samplers; others are grey.
COLOURS = {
    "ddim": RESULT,
    "ddpm": REMOVED,
    "few_step": INPUT_COLOUR,
    "heun": "#3f7d20",
    "dpmpp_2m": "#8a3ffc",
}


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
    picture = as_png(figure)
    atomic.write(path, picture, force=True)


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


#: What stands for the experiment by which a model was trained.
OWN = "own"


@dataclass(frozen=True)
class Report:
    """What was measured, with the names of the scores, and what it was measured of."""

    rows: Sequence[Row]
    measures: Sequence[str]
    told: Mapping[str, Any]
    notes: Sequence[str]

    def write(self, folder: Path, command: str) -> str:
        """Write it into a folder, with a picture where that can be drawn; returns the table."""
        return write_benchmark(
            folder, self.rows, self.measures, command=command, told=self.told, picture=drawable()
        )


def benchmark_model(
    denoiser: NetworkDenoiser,
    model: str,
    plan: Plan,
    *,
    data: Path | None,
    files: int,
    metrics: Sequence[str] | None,
    training: str | None,
    training_steps: int,
    begin: Callable[[], Path],
    tell: Callable[[int, int], None],
) -> Report:
    """Measure what a plan asks for.

    Args:
        denoiser: the model.
        model: its name or file.
        plan: calls, samplers, pieces and threads.
        data: folder of recordings to score on, see `scoring_of`, or None for time alone.
        files, metrics: see `scoring_of`.
        training: overrides of a run whose steps are timed, see `overrides_of`, or None.
        training_steps: that are timed.
        begin: gives the file of rows, once all else is known to be right.
        tell: called as tell(done rows, all rows).

    Raises:
        InputError: the model, the data or the configuration can't be used.
    """
    if data is None and metrics is not None:
        raise InputError("metrics are for data with the truth: name a folder, or leave them")
    scoring = scoring_of(denoiser, data, files=files, metrics=metrics) if data else None
    device = next(denoiser.parameters()).device.type
    here = {"machine": machine(), "device": device, "torch": torch.__version__}
    of = {"task": task_of(denoiser), "model": artifact.fingerprint(model)}
    jobs = list(speed_jobs(denoiser, plan, {**of, **here}))
    if scoring is not None:
        jobs += quality_jobs(denoiser, plan, scoring, {**of, **_told(scoring, plan)})
    if training is not None:
        words = overrides_of(training, denoiser)
        jobs += _training_jobs(words, plan, training_steps, here)
    rows = measured(jobs, begin(), lambda done, total, _: tell(done, total))
    told = {"name": model, **of, **here, "plan": told_plan(plan)}
    measures = () if scoring is None else tuple(scoring.measures)
    if scoring is not None:
        told |= {"data": scoring.digest, "files": [one.name for one in scoring.examples]}
    return Report(rows, measures, told, _notes(denoiser, training))


def overrides_of(given: str, denoiser: NetworkDenoiser) -> list[str]:
    """The overrides of a run, in which `own` stands for the model's own experiment.

    Raises:
        InputError: the model's card names none, or the words are no overrides.
    """
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise InputError(f"train is '{given}', which lacks a quote: {error}") from error
    experiment = own_experiment(denoiser)
    if OWN in words and experiment is None:
        raise InputError("train is 'own', but the model's card names none: give experiment=NAME")
    return [f"experiment={experiment}" if word == OWN else word for word in words]


def own_experiment(denoiser: NetworkDenoiser) -> str | None:
    """The experiment that the model's card names, if it does."""
    found = re.search(r"experiment=(\w+)", str(denoiser.card.get("command", "")))
    return None if found is None else found[1]


def drawable() -> bool:
    """Whether a picture can be drawn here."""
    with suppress(InputError):
        require_matplotlib()
        return True
    return False


def _told(scoring: Scoring, plan: Plan) -> Row:
    """What tells scores from others."""
    return {
        "data": scoring.digest, "count": len(scoring.examples),
        "metrics": ",".join(scoring.measures), "noise_std": plan.noise_std,
    }  # fmt: skip


def _training_jobs(words: Sequence[str], plan: Plan, steps: int, here: Row) -> Iterator[Job]:
    """One job for each number of threads."""
    for count in plan.threads:
        asked = {
            "machine": here["machine"], "torch": here["torch"], "kind": TRAINING,
            "training": shlex.join(words), "threads": count, "timed_steps": steps,
        }  # fmt: skip
        yield asked, partial(_trained, words, steps, count)


def _trained(words: Sequence[str], steps: int, count: int) -> Row:
    with configuration_mistakes():
        from signal_diffusion.training.speed import training_speed

        return training_speed(words, steps=steps, thread_count=count)


def _notes(denoiser: NetworkDenoiser, training: str | None) -> list[str]:
    """What was left out, and how to have it."""
    found = []
    experiment = own_experiment(denoiser)
    if training is None and experiment is not None:
        words = f"--train 'own data.sources.root=DATA' (experiment={experiment})"
        found.append(f"note: training was not timed; {words} does")
    if not drawable():
        found.append("note: no picture without matplotlib: pip install 'signal-diffusion[plot]'")
    return found
