"""Progress on standard error."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from signal_diffusion.cli.messages import printable, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from signal_diffusion.tasks.jobs import Header, Job


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

    def update(self, job: Job, done: int, total: int) -> None:
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


STDERR = 2


@contextmanager
def libraries_silent() -> Iterator[None]:
    """Decoders print warnings of their own where a file is damaged: Python's errors tell enough.

    File descriptor 2 leads nowhere, while `sys.stderr` goes where it did.
    """
    if not _is_the_real_one():
        yield
        return
    shown = sys.stderr
    kept = os.dup(STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    os.close(nowhere)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=shown.encoding, errors="replace")
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(sys.stderr.fileno(), STDERR)
        sys.stderr.close()
        sys.stderr = shown


def _is_the_real_one() -> bool:
    try:
        return sys.stderr.fileno() == STDERR
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return False


#: Ctrl-C, the end that a system asks for, and a terminal that went away.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
#: What shells add to a signal's number.
KILLED = 128


class Ended(KeyboardInterrupt):
    """A signal that ends the run."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Signals end the block in one line and the exit code that shells know them by.

    Only the first one counts: those that follow would end the tidying up, too.

    Args:
        kept: what the line says of the outputs.

    Raises:
        typer.Exit: with 128 and the signal's number.
    """
    try:
        with _handlers():
            yield
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        what = (
            "interrupted" if number == signal.SIGINT else f"ended ({signal.Signals(number).name})"
        )
        say(f"{what}: {kept}", err=True)
        raise typer.Exit(KILLED + number) from None


@contextmanager
def _handlers() -> Iterator[None]:
    """The first signal raises `Ended`; whatever is ignored, as by nohup, stays so."""
    before = {}
    ending = threading.Event()

    def end(number: int, _: FrameType | None) -> None:
        if not ending.is_set():
            ending.set()
            raise Ended(number)

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        installed = {number: signal.getsignal(number) for number in numbers}
        before = {n: h for n, h in installed.items() if h not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
