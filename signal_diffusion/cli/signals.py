"""How a run ends that is told to: in one line, and with no file half written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from signal_diffusion.cli.lines import say

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
        with _heard():
            yield
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        what = (
            "interrupted" if number == signal.SIGINT else f"ended ({signal.Signals(number).name})"
        )
        say(f"{what}: {kept}", err=True)
        raise typer.Exit(KILLED + number) from None


@contextmanager
def _heard() -> Iterator[None]:
    """The first signal raises `Ended`; whatever is ignored, as by nohup, stays so."""
    before = {}
    ending = threading.Event()

    def end(number: int, _: FrameType | None) -> None:
        if not ending.is_set():
            ending.set()
            raise Ended(number)

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        known = {number: signal.getsignal(number) for number in numbers}
        before = {n: h for n, h in known.items() if h not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
