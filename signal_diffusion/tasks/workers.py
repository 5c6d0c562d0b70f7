"""Denoise many files, one after another or several at the same time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from signal_diffusion.errors import InputError, reason
from signal_diffusion.files.journal import Journal, Row
from signal_diffusion.samplers import Progress
from signal_diffusion.tasks.file_report import FileReport
from signal_diffusion.tasks.jobs import Job, plan

__all__ = ["Job", "Outcome", "plan", "run_jobs"]


#: Seconds after which a waiting main thread looks up, since not every system lets Ctrl-C wake it.
LOOK_UP = 0.5


Work = Callable[[Job, Progress], FileReport]


Result = tuple[Job, FileReport | BaseException]


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


def _ignored(*_: object) -> None:
    """Takes what nobody asked to be told."""


def run_jobs(
    jobs: Sequence[Job],
    work: Work,
    *,
    workers: int = 1,
    progress: Callable[[Job, int, int], None] = _ignored,
    finished: Callable[[Job, FileReport | Exception], None] = _ignored,
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
    outcome, began = Outcome(), time.perf_counter()
    # Closed at once, since a loop that is left would otherwise go on in its threads.
    with closing(_results(jobs, work, workers, progress)) as results:
        for job, result in results:
            if isinstance(result, BaseException):
                if not isinstance(result, Exception):
                    raise result
                outcome.failed.append((job, result))
            else:
                outcome.reports.append(result)
            finished(job, result)
    outcome.taken = time.perf_counter() - began
    return outcome


def _results(
    jobs: Sequence[Job], work: Work, workers: int, progress: Callable[[Job, int, int], None]
) -> Generator[Result, None, None]:
    """Every job with its report or its error, as they come."""
    stopped, results = threading.Event(), SimpleQueue[Result]()

    def do(job: Job) -> None:
        def report(done: int, total: int) -> None:
            if stopped.is_set():
                raise Stopped
            progress(job, done, total)

        try:
            _make_folders(job)
            results.put((job, work(job, report)))
        except BaseException as error:
            results.put((job, error))

    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                pool.submit(do, job)
            for _ in jobs:
                yield _next(results)
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _next(results: SimpleQueue[Result]) -> Result:
    while True:
        with suppress(Empty):
            return results.get(timeout=LOOK_UP)


def _make_folders(job: Job) -> None:
    for path in job.outputs:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path} can't be written: {error.strerror or error}") from error


class ReportFile(AbstractContextManager["ReportFile"]):
    """A journal that gets a line for each recording that is done.

    A line holds the fields of `FileReport` and `error`: null, or why there is no output. Lines of
    other recordings, from earlier runs, stay.

    Args:
        path: of the report.
        again: paths of the recordings that will be done, whose old lines go.

    Raises:
        InputError: the file can't be written, or is something else than a report.
    """

    def __init__(self, path: Path, again: Iterable[Path]) -> None:
        named = {source.resolve() for source in again}
        self._journal = Journal(path, _source, keep=lambda row: _source(row) not in named)

    def __enter__(self) -> ReportFile:
        self._journal.__enter__()
        return self

    def __exit__(self, *given: Any) -> None:
        self._journal.__exit__(*given)

    def add(self, job: Job, result: FileReport | Exception) -> None:
        """Write the line of one recording.

        Raises:
            InputError: the disk is full.
        """
        self._journal.add([_row(job, result)])


def _source(row: Row) -> Path | None:
    """The recording that a line is about, by whatever name."""
    with suppress(TypeError, ValueError, OSError):
        return Path(row["path"]).resolve() if "path" in row else None
    return None


def _row(job: Job, result: FileReport | Exception) -> dict[str, Any]:
    row: dict[str, Any] = {item.name: None for item in fields(FileReport)}
    row |= {"path": str(job.source), "output": str(job.target), "error": None}
    if isinstance(result, Exception):
        return {**row, "error": reason(result)}
    return {**row, **{name: _json(value) for name, value in asdict(result).items()}}


def _json(value: Any) -> Any:
    """A value that JSON has: null stands for numbers that are none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
