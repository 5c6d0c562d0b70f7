"""`signal-diffusion score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from signal_diffusion.cli import options as opt
from signal_diffusion.cli.messages import count, say
from signal_diffusion.cli.terminal import libraries_silent
from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.tasks.anomaly import ScoreReport


def score(
    readings: Annotated[Path, opt.argument("Table of readings.", "TABLE")],
    output: Annotated[Path, opt.option("CSV of scores.", "-o", "--output", panel=opt.IO)],
    model: opt.Model,
    window: str | None = opt.setting(
        None,
        "Length of a window, e.g. 30 or 30rows (default: the model's, or 32rows).",
        panel=opt.SAMPLING,
        metavar="SECONDS|Nrows",
    ),
    baseline: float | None = opt.setting(
        None,
        "Length of the file's beginning without faults, which alone defines normal readings.",
        panel=opt.SAMPLING,
        metavar="SECONDS",
    ),
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    seed: opt.Seed = 0,
    columns: opt.Columns = None,
    skip: opt.Skip = None,
    time: opt.Time = None,
    rate: opt.Rate = None,
    delimiter: opt.Delimiter = None,
) -> None:
    """Score how unusual each window of a table is, by a model of readings without faults."""
    seconds, rows = window_length(window)
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.tasks.anomaly import score_table

    with libraries_silent():
        report = score_table(
            Denoiser.from_pretrained(model),
            readings,
            output,
            columns=opt.table_columns(rate, columns, time, delimiter, skip),
            seconds=seconds,
            rows=rows,
            baseline=baseline,
            seed=seed,
            force=force,
        )
    if not quiet:
        for line in _lines(report):
            say(line)


def window_length(word: str | None) -> tuple[float | None, int | None]:
    """The length of a window in seconds or in rows, None for the one that was not given.

    >>> window_length("2.5"), window_length("30rows"), window_length(None)
    ((2.5, None), (None, 30), (None, None))
    """
    if word is None:
        return None, None
    number = word.removesuffix("rows").strip()
    try:
        if number != word.strip():
            return None, int(number)
        seconds = float(number)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"window is '{word}'; give seconds, e.g. 30, or rows, e.g. 30rows")
    return seconds, None


def _lines(report: ScoreReport) -> list[str]:
    size = f"{count(report.rows, 'row')} ({report.rows / report.sample_rate:g} s)"
    windows = f"{count(report.windows, 'window')} of {size}"
    channels = count(report.channels, "channel")
    line = f"{report.path} -> {report.output}: {windows}, {channels}"
    lines = [f"{line}; highest score {report.highest:.1f} at {report.at}"]
    if report.baseline is not None:
        lines.append(f"scores are relative to the first {report.baseline:g} s of this file")
    elif report.measured:
        lines.append("note: scores are relative to this file, which must be mostly without faults")
    if report.unscored:
        lacking = count(report.unscored, "window")
        lines.append(f"note: {lacking} without a score: more than half of the readings is missing")
    return lines
