"""Denoise many files, one after another or several at the same time, and report on each."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Protocol

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.dsp.levels import FRAME, LevelMeter
from signal_diffusion.errors import reason
from signal_diffusion.files.atomic import failures
from signal_diffusion.files.journal import Journal, Row
from signal_diffusion.samplers import Progress
from signal_diffusion.streaming.background import LOOK_UP
from signal_diffusion.streaming.noise_check import ChannelNoise, Removed
from signal_diffusion.tasks.jobs import Job

#: Of the frames whose levels are told, s.
FRAME_SECONDS = 0.032


class Stored(Protocol):
    """What counts of the form of a recording, of sound or of readings."""

    @property
    def sample_rate(self) -> float: ...

    @property
    def channels(self) -> int: ...

    @property
    def dtype(self) -> str: ...


@dataclass(frozen=True)
class FileReport:
    """What was done to one file.

    Attributes:
        path, output: the files.
        sample_rate, channels, seconds: of the output, in Hz and s.
        level_in_db, level_out_db: of the loud frames, dB of full scale.
        estimated_snr_db: the power of what was kept over that of what was removed; None where
            nothing was kept or removed.
        processing_seconds, real_time_factor: time of the work in s, and that over `seconds`.
        note: what could not be given back as it came.
        noise: of denoisers that go by the noise, what was called noise; None for others.
    """

    path: str
    output: str
    sample_rate: float
    channels: int
    seconds: float
    level_in_db: float
    level_out_db: float
    estimated_snr_db: float | None
    processing_seconds: float
    real_time_factor: float
    note: str | None
    noise: tuple[ChannelNoise, ...] | None = None


class Tally:
    """Levels and powers of what comes by."""

    def __init__(self, form: Stored) -> None:
        self.form, self.frames = form, 0
        frame = max(FRAME, round(FRAME_SECONDS * form.sample_rate))
        self.before, self.after = (LevelMeter(form.channels, frame=frame) for _ in range(2))
        self.kept = self.removed = 0.0

    def __call__(self, noisy: Array, draws: Array) -> None:
        mean = draws.mean(axis=1)
        self.frames += noisy.shape[1]
        self.before.push(noisy)
        self.after.push(mean)
        self.kept += float(np.square(mean, dtype=np.float64).sum())
        self.removed += float(np.square(noisy - mean, dtype=np.float64).sum())

    def report(
        self,
        source: Path | str,
        target: Path | str,
        began: float,
        *,
        note: str | None = None,
        removed: Removed | None = None,
    ) -> FileReport:
        """What was seen, as a row, of work that began at a time of `time.perf_counter`."""
        form, spent = self.form, time.perf_counter() - began
        seconds = self.frames / form.sample_rate
        both = self.kept > 0 and self.removed > 0
        return FileReport(
            path=str(source),
            output=str(target),
            sample_rate=form.sample_rate,
            channels=form.channels,
            seconds=seconds,
            level_in_db=round(self.before.level_db, 2),
            level_out_db=round(self.after.level_db, 2),
            estimated_snr_db=round(10 * math.log10(self.kept / self.removed), 2) if both else None,
            processing_seconds=round(spent, 3),
            real_time_factor=round(spent / seconds, 5) if seconds else 0.0,
            note=note,
            noise=None if removed is None else removed.channels(),
        )


Work = Callable[[Job, Progress], FileReport]


@dataclass
class Outcome:
    """What became of some jobs.

    Attributes:
        reports: of the files that were denoised.
        failed: the other jobs, and their errors.
        taken: seconds.
    """

    reports: list[FileReport] = field(default_factory=list)
    failed: list[tuple[Job, Exception]] = field(default_factory=list)
    taken: float = 0.0


class Stopped(Exception):
    """Ends the work on a file once the others are given up."""


def run_jobs(
    jobs: Sequence[Job],
    work: Work,
    *,
    workers: int = 1,
    progress: Callable[[Job, int, int], None] = lambda *_: None,
    finished: Callable[[Job, FileReport | Exception], None] = lambda *_: None,
) -> Outcome:
    """Do all jobs, `workers` at a time in threads; one that fails stops none of the others.

    Args:
        jobs: what to do; the folders of their outputs are made.
        work: does one, given a function to call as progress(done, all), which raises where the work
            is to be given up.
        workers: threads.
        progress: called as progress(job, done, all), in those threads.
        finished: called in this thread as soon as a job is done, with its report or its error.

    Raises:
        KeyboardInterrupt: the files that were being denoised were given up.
    """
    outcome, began, stopped = Outcome(), time.perf_counter(), threading.Event()

    def do(job: Job) -> FileReport:
        def report(done: int, total: int) -> None:
            if stopped.is_set():
                raise Stopped
            progress(job, done, total)

        for path in job.outputs:
            with failures(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        return work(job, report)

    with ThreadPoolExecutor(workers) as pool:
        try:
            pending = {pool.submit(do, job): job for job in jobs}
            while pending:
                for future in wait(pending, LOOK_UP, FIRST_COMPLETED).done:
                    job = pending.pop(future)
                    try:
                        result: FileReport | Exception = future.result()
                    except Exception as error:
                        result = error
                    if isinstance(result, Exception):
                        outcome.failed.append((job, result))
                    else:
                        outcome.reports.append(result)
                    finished(job, result)
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
    outcome.taken = time.perf_counter() - began
    return outcome


def report_file(path: Path, again: Iterable[Path]) -> Journal:
    """A journal for a row of each recording that is done; see `row_of`.

    Args:
        path: of the report.
        again: paths of the recordings that will be done, whose old rows go.

    Raises:
        InputError: the file can't be written, or is something else than a report.
    """
    named = {source.resolve() for source in again}
    return Journal(path, _source, keep=lambda row: _source(row) not in named)


def _source(row: Row) -> Path | None:
    """The recording that a line is about, by whatever name."""
    with suppress(TypeError, ValueError, OSError):
        return Path(row["path"]).resolve() if "path" in row else None
    return None


def row_of(job: Job, result: FileReport | Exception) -> Row:
    """The fields of a `FileReport` and `error`: null, or why there is no output."""
    row: Row = {item.name: None for item in fields(FileReport)}
    row |= {"path": str(job.source), "output": str(job.target), "error": None}
    if isinstance(result, Exception):
        return {**row, "error": reason(result)}
    # JSON has no NaN and no infinity.
    values = asdict(result).items()
    odd = {k: None for k, v in values if isinstance(v, float) and not math.isfinite(v)}
    return {**row, **dict(values), **odd}
