"""Progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.cli.lines import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from signal_diffusion.tasks.headers import Header
    from signal_diffusion.tasks.plans import Job


class Bars:
    """One bar for all files, by their seconds, and one for each that is being denoised.

    Args:
        progress: where the bars appear.
        headers: of the files.
    """

    def __init__(self, progress: Progress, headers: Sequence[Header]) -> None:
        self._progress = progress
        # A file whose length is not known counts a little, so that the bar ends when all have.
        self._seconds = {header.job.source: header.seconds or 1e-3 for header in headers}
        self._running: dict[Path, TaskID] = {}
        self._done: dict[Path, float] = {}
        self._all = progress.add_task(
            f"{len(headers)} files", total=sum(self._seconds.values()), visible=len(headers) > 1
        )

    def tell(self, job: Job, done: int, total: int) -> None:
        """Show that so many of a job's calls are done; any thread may say so."""
        if job.source not in self._running:
            self._running[job.source] = self._progress.add_task(
                printable(job.source.name), total=total
            )
        self._progress.update(self._running[job.source], completed=done, total=total)
        self._advance(job, done / max(total, 1))

    def finish(self, job: Job) -> None:
        """Take a job's bar away."""
        self._advance(job, 1.0)
        if job.source in self._running:
            self._progress.remove_task(self._running.pop(job.source))

    def _advance(self, job: Job, share: float) -> None:
        seconds = share * self._seconds[job.source]
        self._progress.advance(self._all, seconds - self._done.get(job.source, 0.0))
        self._done[job.source] = seconds


@contextmanager
def bars(headers: Sequence[Header], *, quiet: bool) -> Iterator[Bars]:
    """Bars while the block runs, if standard error is a terminal and not to be quiet."""
    with _display(quiet=quiet) as progress:
        yield Bars(progress, headers)


@contextmanager
def bar(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """One bar while the block runs, told by `tell(done, total)`, where `bars` would show some."""
    with _display(quiet=quiet) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _display(*, quiet: bool) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        # Names of files may hold what rich takes for its markup.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    hidden = quiet or sys.stderr is None or not sys.stderr.isatty()
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden)
