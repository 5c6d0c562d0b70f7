"""Tell unusual readings by the error of a denoiser that learnt readings without faults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.nn.frames import Identity
from signal_diffusion.recordings.partials import require_writable
from signal_diffusion.recordings.tables import TableReader, opened_table
from signal_diffusion.tasks.plans import Columns, Job, require_distinct
from signal_diffusion.tasks.score_errors import LEVELS, state_channels, window_errors
from signal_diffusion.tasks.score_files import spooled, written_scores

Array = NDArray[Any]

#: Rows of a window where nothing tells it, and at most.
ROWS, MOST_ROWS = 32, 1 << 16
#: Rows, or windows, that medians are taken of: more are thinned out evenly.
MOST_LOOKED_AT = 1 << 16
#: Spreads that a reading may lie off its channel's median; what lies further is as unusual.
FURTHEST = 20.0
#: Deviation of errors that don't vary.
LEAST = 1e-6


@dataclass(frozen=True)
class Usual:
    """Errors on readings without faults, by level and channel (levels, C)."""

    mean: Array
    deviation: Array

    @staticmethod
    def of(errors: Array) -> Usual:
        """What is usual by the errors (W, levels, C) of a file that is mostly without faults."""
        middle, deviation = median_and_deviation(errors)
        return Usual(middle, np.maximum(deviation, LEAST))

    def scores(self, errors: Array) -> Array:
        """Errors (W, levels, C) as deviations from the mean, averaged over the levels: (W, C)."""
        return np.asarray(((errors - self.mean) / self.deviation).mean(axis=1))


@dataclass(frozen=True)
class ScoreReport:
    """What was scored: `rows` make a window, `highest` is the largest score, at the time `at`.

    `measured` tells that the errors were compared with the file's own median, not with training's.
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


def score_table(
    denoiser: NetworkDenoiser,
    source: Path,
    target: Path,
    *,
    columns: Columns = Columns(),
    seconds: float | None = None,
    rows: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> ScoreReport:
    """Write how unusual each window of a table is: its time, a score, and one for each channel.

    With x a channel brought to a median of 0 and a robust deviation of 1 over the file, the error
    of a window at the level sigma is the mean of |x - D(x + sigma z; sigma)|^2. A channel's score
    is the mean over `LEVELS` of (error - m) / s, where m and s are the error's mean and deviation
    on the training data, or, where the model doesn't know them for such windows, its median and
    robust deviation over the file; the score is the mean over channels. A rest of at least half a
    window counts as one.

    Args:
        denoiser: of an unpaired schedule, for as many channels at once or for one.
        source, target: the table and the CSV to write.
        columns: which columns are channels, and at what rate, where the file does not tell.
        seconds, rows: length of a window; None for both takes the model's own, or `ROWS`.
        seed: of the noise z.
        force: replace an output that exists.

    Raises:
        InputError: a file can't be read or written, or the model or window doesn't fit.
    """
    _require_scoring(denoiser, seed)
    _require_target(source, target, force=force)
    known = denoiser.card.get("readings", {})
    names = columns.channels or known.get("columns")
    opening = opened_table(
        source, rate=columns.rate, channels=names, time=columns.time,
        delimiter=columns.delimiter, skip=columns.skip,
    )  # fmt: skip
    with opening as reader:
        size = _window(reader.form.sample_rate, seconds, rows, known.get("window"))
        _require_fitting(denoiser, reader)
        errors = window_errors(denoiser, _standard(reader), reader.form.channels, size, seed=seed)
        with spooled(errors, (len(LEVELS), reader.form.channels)) as spool:
            if not spool.length:
                raise InputError(
                    f"{source} is shorter than half a window of {size} rows: take shorter windows "
                    "(--window)"
                )
            usual = _trained(known, reader.form.names, size)
            measured = usual is None
            usual = usual or Usual.of(spool.thinned(MOST_LOOKED_AT))
            scores = (usual.scores(block) for block in spool.blocks())
            highest, at = written_scores(target, reader, size, scores)
    form = reader.form
    return ScoreReport(
        str(source), str(target), form.sample_rate, form.channels, size, spool.length,
        highest, at, measured,
    )  # fmt: skip


def learn_usual(
    denoiser: NetworkDenoiser,
    runs: Iterable[Array],
    names: Sequence[str],
    *,
    rows: int = ROWS,
    seed: int = 0,
) -> None:
    """Put into a model's card how large its errors are on runs (C, n) without faults.

    Args:
        runs: readings of which each channel has a median of 0 and a deviation of about 1.
        names: of the channels, which `score_table` will then look for.
        rows: of a window.
    """
    found = [
        np.stack(list(window_errors(denoiser, [run], len(names), rows, seed=seed))) for run in runs
    ]
    errors = np.concatenate(found)
    denoiser.card["readings"] = {
        "columns": list(names),
        "window": rows,
        "levels": list(LEVELS),
        "mean": errors.mean(axis=0).tolist(),
        "deviation": np.maximum(errors.std(axis=0), LEAST).tolist(),
    }


def _standard(reader: TableReader) -> Iterator[Array]:
    """The readings with a median of 0 and a robust deviation of 1 in every channel."""
    step = max(1, math.ceil(reader.scan().frames / MOST_LOOKED_AT))
    start, looked_at = 0, []
    for block in reader.blocks():
        looked_at.append(block[:, -start % step :: step])
        start += block.shape[1]
    middle, spread = _spread(np.concatenate(looked_at, axis=1).T)
    for block in reader.blocks():
        yield np.clip((block - middle[:, None]) / spread[:, None], -FURTHEST, FURTHEST)


def _spread(values: Array) -> tuple[Array, Array]:
    """Median and robust standard deviation of readings (n, C); 1 where they don't vary.

    The 10th and 90th percentile count where they tell of more than the absolute deviations do, as
    of readings that are rounded to a few values.
    """
    middle, near = median_and_deviation(values)
    low, high = np.quantile(values, [0.1, 0.9], axis=0)
    spread = np.maximum(near, (high - low) / 2.563)
    return middle, np.where(spread > 0, spread, 1.0)


def median_and_deviation(values: Array) -> tuple[Array, Array]:
    """Median over the first axis, and the deviation by the median of absolute deviations.

    >>> middle, deviation = median_and_deviation(np.arange(101.0))
    >>> float(middle), float(deviation)
    (50.0, 37.065)
    """
    middle = np.median(values, axis=0)
    return middle, 1.4826 * np.median(np.abs(values - middle), axis=0)


def _trained(known: Mapping[str, Any], names: Sequence[str], rows: int) -> Usual | None:
    """What the model knows of errors on these channels in such windows."""
    told = known.get("columns"), known.get("window"), known.get("levels")
    if told != (list(names), rows, list(LEVELS)):
        return None
    return Usual(np.array(known["mean"]), np.array(known["deviation"]))


def _window(rate: float, seconds: float | None, rows: int | None, known: int | None) -> int:
    """Rows of a window."""
    if seconds is not None:
        rows = round(min(max(seconds * rate, 0), 2 * MOST_ROWS))
    rows = rows if rows is not None else known or ROWS
    if not 1 <= rows <= MOST_ROWS:
        raise InputError(f"window is {rows} rows at {rate:g} Hz; it goes from 1 to {MOST_ROWS}")
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
