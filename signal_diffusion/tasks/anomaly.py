"""Tell unusual readings by the error of a denoiser that learnt readings without faults."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, tee
from pathlib import Path

import numpy as np

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.robust import Scale
from signal_diffusion.errors import InputError
from signal_diffusion.files import atomic
from signal_diffusion.files.atomic import require_writable
from signal_diffusion.files.journal import cell_of
from signal_diffusion.nn.frames import Identity
from signal_diffusion.tables import TableReader, opened_table
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tables.time import QUOTES
from signal_diffusion.tasks.jobs import Job, require_distinct
from signal_diffusion.tasks.window_errors import (
    LEVELS,
    Known,
    Spool,
    Usual,
    spooled,
    state_channels,
    window_errors,
)

#: Rows of a window where nothing tells it, and at most.
ROWS, MOST_ROWS = 32, 1 << 16
#: Rows, or windows, that medians are taken of: more are thinned out evenly.
MOST_LOOKED_AT = 1 << 16
#: Windows of a baseline: the deviation of fewer tells nothing.
FEWEST = 8


@dataclass(frozen=True)
class ScoreReport:
    """What was scored: `rows` make a window, `highest` is the largest score, at the time `at`.

    `measured` tells that the errors were compared with the file's own, not with training's: with
    those of its first `baseline` seconds, or of all of it if that is None. `unscored` windows lack
    more than half of the readings of every channel.
    """

    path: str
    output: str
    sample_rate: float
    channels: int
    rows: int
    windows: int
    highest: float
    at: str
    measured: bool
    baseline: float | None
    unscored: int


def score_table(
    denoiser: NetworkDenoiser,
    source: Path,
    target: Path,
    *,
    columns: Columns = Columns(),
    seconds: float | None = None,
    rows: int | None = None,
    baseline: float | None = None,
    seed: int = 0,
    force: bool = False,
) -> ScoreReport:
    """Write how unusual each window of a table is: its time, a score, and one for each channel.

    With x a channel brought to a median of 0 and a robust deviation of 1 over the file, or by the
    scale that the model knows (see `learn_usual`), the error of a window at the level sigma is the
    mean of |x - D(x + sigma z; sigma)|^2. A channel's score is the mean over `LEVELS` of
    (error - m) / s, where m and s are the error's median and robust deviation on the training
    data, or, where the model doesn't know them for such windows, over the file; the score is the
    mean over channels. Missing readings don't count: a channel that lacks more than half of a
    window's has an empty field there, and no part in the mean. With a baseline, medians and
    deviations, of readings and of errors, are those of the file's beginning. A rest of at least
    half a window counts as one.

    Args:
        denoiser: of an unpaired schedule, for as many channels at once or for one.
        source, target: the table and the CSV to write.
        columns: which columns are channels, and at what rate, where the file does not tell.
        seconds, rows: length of a window; None for both takes the model's own, or `ROWS`.
        baseline: seconds at the beginning that are without faults, `FEWEST` windows or more.
        seed: of the noise z.
        force: replace an output that exists.

    Raises:
        InputError: a file can't be read or written, or the model, window or baseline doesn't fit.
    """
    _require_scoring(denoiser, seed)
    _require_target(source, target, force=force)
    reference = Known.of(denoiser.card)
    names = columns.channels or reference.columns
    with opened_table(source, replace(columns, channels=names)) as reader:
        size = _window(reader.form.sample_rate, seconds, rows, reference.window)
        _require_fitting(denoiser, reader)
        beginning = _beginning(reader, baseline, size)
        form = reader.form
        alike = beginning is None and reference.columns == tuple(form.names)
        scale = reference.scale if alike else None
        if scale is None:
            scale = Scale.of(*_looked_at(reader, beginning or reader.scan().frames))
        # One pass through the file for both: they are taken in step.
        first, second = tee(reader.marked())
        readings, missing = (scale(values) for values, _ in first), (mask for _, mask in second)
        errors = window_errors(denoiser, readings, form.channels, size, missing=missing, seed=seed)
        with spooled(errors, (len(LEVELS), form.channels)) as spool:
            if not spool.length:
                raise InputError(
                    f"{source} is shorter than half a window of {size} rows: take shorter windows "
                    "(--window)"
                )
            usual = reference.usual if alike and size == reference.window else None
            measured = usual is None
            usual = usual or _found(spool, reader, beginning, size)
            scores = (usual.scores(block) for block in spool.blocks())
            highest, at, unscored = written_scores(target, reader, size, scores, force=force)
    return ScoreReport(
        path=str(source),
        output=str(target),
        sample_rate=form.sample_rate,
        channels=form.channels,
        rows=size,
        windows=spool.length,
        highest=highest,
        at=at,
        measured=measured,
        baseline=baseline,
        unscored=unscored,
    )


def learn_usual(
    denoiser: NetworkDenoiser,
    runs: Iterable[Array],
    names: Sequence[str],
    *,
    rows: int = ROWS,
    seed: int = 0,
    scale: Scale | None = None,
) -> None:
    """Put into a model's card how large its errors are on runs (C, n) without faults.

    Args:
        runs: readings of which each channel has a median of 0 and a deviation of about 1.
        names: of the channels, which `score_table` will then look for.
        rows: of a window.
        scale: what brought the runs there, where it is to bring every file's readings there, too:
            of the same machine, or of machines alike. None: each file has a scale of its own.
    """
    found = [
        np.stack(list(window_errors(denoiser, [run], len(names), rows, seed=seed))) for run in runs
    ]
    usual = Usual.of(np.concatenate(found))
    denoiser.card["readings"] = {
        "columns": list(names),
        "window": rows,
        "levels": list(LEVELS),
        "median": usual.middle.tolist(),
        "deviation": usual.deviation.tolist(),
    }
    if scale is not None:
        entry = {"middle": scale.middle.tolist(), "spread": scale.spread.tolist()}
        denoiser.card["readings"]["scale"] = entry


def _looked_at(reader: TableReader, rows: int) -> tuple[Array, Array]:
    """Some of the first rows (C, n), evenly spread, and which of them were filled in."""
    step, start, found = max(1, math.ceil(rows / MOST_LOOKED_AT)), 0, []
    for block in reader.marked():
        kept = slice(-start % step, max(rows - start, 0), step)
        found.append([part[:, kept] for part in block])
        start += block[0].shape[1]
        if start >= rows:
            break
    values, missing = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    return values, missing


def _found(spool: Spool, reader: TableReader, beginning: int | None, size: int) -> Usual:
    """What is usual by the errors of the file itself, or of so many rows at its beginning."""
    if beginning is None:
        return Usual.of(spool.thinned(MOST_LOOKED_AT))
    errors = spool.thinned(MOST_LOOKED_AT, beginning // size)
    _require_readings(errors, reader, size)
    return Usual.of(errors)


def _require_readings(errors: Array, reader: TableReader, size: int) -> None:
    """A few windows tell what is usual only where they have readings."""
    counts = (~np.isnan(errors).any(axis=1)).sum(axis=0)
    few = [name for name, n in zip(reader.form.names, counts, strict=True) if n < FEWEST]
    if few:
        raise InputError(
            f"the baseline of {reader.path} has too few readings of {', '.join(few)}: {FEWEST} "
            f"windows of {size} rows must have half of theirs; give more seconds (--baseline), "
            "shorter windows (--window) or other columns (--columns)"
        )


def _window(rate: float, seconds: float | None, rows: int | None, own: int | None) -> int:
    """Rows of a window."""
    if seconds is not None:
        rows = round(min(max(seconds * rate, 0), 2 * MOST_ROWS))
    rows = rows if rows is not None else own or ROWS
    if not 1 <= rows <= MOST_ROWS:
        raise InputError(f"window is {rows} rows at {rate:g} Hz; it goes from 1 to {MOST_ROWS}")
    return rows


def _beginning(reader: TableReader, seconds: float | None, size: int) -> int | None:
    """Rows of a baseline, None for none."""
    if seconds is None:
        return None
    rate, frames = reader.form.sample_rate, reader.scan().frames
    if not seconds > 0:
        raise InputError(
            f"baseline is {seconds:g} s; give the seconds at the beginning that are without faults"
        )
    if seconds * rate >= frames + 1:
        raise InputError(
            f"baseline is {seconds:g} s, but {reader.path} is {frames / rate:g} s long: give fewer "
            "seconds (--baseline)"
        )
    rows = round(seconds * rate)
    if rows < FEWEST * size:
        raise InputError(
            f"baseline is {seconds:g} s, but {FEWEST} windows of {size} rows are "
            f"{FEWEST * size / rate:g} s: give so many seconds (--baseline), or shorter windows "
            "(--window)"
        )
    return rows


def _require_target(source: Path, target: Path, *, force: bool) -> None:
    if target.suffix.lower() != ".csv":
        raise InputError(f"{target}: scores are written as CSV: give it a name that ends in .csv")
    require_distinct([Job(source, target)])
    require_writable(target, force=force)


def _require_scoring(denoiser: NetworkDenoiser, seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be a whole number, 0 or more")
    if denoiser.schedule.paired:
        raise InputError(
            "this model denoises an observation: scores need one of an unpaired schedule, e.g. "
            "of experiment=skab"
        )
    if not isinstance(denoiser.codec, Identity):
        raise InputError("this model works on spectra: scores need one that works on samples")


def _require_fitting(denoiser: NetworkDenoiser, reader: TableReader) -> None:
    form, rate, state = reader.form, denoiser.sample_rate, state_channels(denoiser)
    if rate is not None and not math.isclose(rate, form.sample_rate, rel_tol=1e-3):
        raise InputError(
            f"{reader.path} is sampled at {form.sample_rate:g} Hz, but the model is for {rate:g} "
            "Hz: resample the table, or train a model on such readings"
        )
    if state not in (1, form.channels):
        raise InputError(
            f"{reader.path} has {form.channels} channels ({', '.join(form.names)}), but the model "
            f"takes {state}: name them by channels= (--columns)"
        )


def written_scores(
    path: Path, reader: TableReader, rows: int, scores: Iterable[Array], *, force: bool = False
) -> tuple[float, str, int]:
    """Write the scores (n, C) of windows as a CSV: the highest of all, its time, and how many lack.

    What is not known, NaN, is an empty field.

    Raises:
        InputError: no window has a score, or the file exists or can't be written.
    """
    names = [cell_of(f"{name}_score") for name in reader.form.names]
    times, highest, at, unscored = window_times(reader, rows), -math.inf, "", 0
    with atomic.writing(path, force=force) as partial:
        with partial.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["time", "score", *names])
            for block in scores:
                for each in block:
                    valid = each[~np.isnan(each)]
                    score, time = float(valid.mean()) if len(valid) else math.nan, next(times)
                    cells = ("" if math.isnan(x) else f"{x:.4f}" for x in (score, *each))
                    table.writerow([time, *cells])
                    unscored += math.isnan(score)
                    if score > highest:
                        highest, at = score, time
        if not at:
            raise InputError(
                f"{reader.path}: every window of {rows} rows lacks more than half of its readings: "
                "take longer windows (--window), or columns with fewer gaps (--columns)"
            )
    return highest, at, unscored


def window_times(reader: TableReader, rows: int) -> Iterator[str]:
    """The time stamp of each window's first row, or of the next one where that is missing.

    Tables without time stamps have seconds from their beginning on.
    """
    if reader.clock is None:
        for start in count(0, rows):
            yield f"{start / reader.form.sample_rate:.10g}"
    scan, done, due = reader.scan(), 0, 0
    missing = np.concatenate([[0], np.cumsum(scan.counts)])
    for stamps in reader.stamps():
        lines = np.arange(done, done + len(stamps))
        frames = lines + missing[np.searchsorted(scan.places, lines, side="right")]
        while len(frames) and due <= frames[-1]:
            yield str(stamps[np.searchsorted(frames, due)]).strip(QUOTES)
            due += rows
        done += len(lines)
