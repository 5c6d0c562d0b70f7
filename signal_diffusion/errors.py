"""The one error that a user can cause, and what its messages share."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """A mistake at a public door, told in one line: what, where, what is allowed, how to mend."""


def reason(error: Exception) -> str:
    """An error in one line, with its type where it is none that a user can cause.

    >>> reason(KeyError("x"))
    "KeyError: 'x'"
    """
    name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return name + one_line(error)


def one_line(error: BaseException) -> str:
    """An error's text in one line.

    >>> one_line(ValueError("the disk\\nis on fire"))
    'the disk is on fire'
    """
    return " ".join(str(error).split())[:500]


def install(extra: str) -> str:
    """The command that installs the packages of an extra, in a clone or for an installed package.

    >>> "[plot]" in install("plot")
    True
    """
    clone = (Path(__file__).resolve().parents[1] / "pyproject.toml").is_file()
    return f'pip install -e ".[{extra}]"' if clone else f'pip install "signal-diffusion[{extra}]"'
