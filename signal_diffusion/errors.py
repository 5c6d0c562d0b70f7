"""The one error that a user can cause, and what its messages share."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any


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


def library(name: str, extra: str, *, of: object) -> Any:
    """A module of a package that an extra brings; raises an InputError where it is not installed.

    Args:
        name: of the module.
        extra: that brings its package.
        of: what needs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(f"{of} needs the package {package}: {install(extra)}") from error
