"""Words of the command line: lists between commas, and the line itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import typer

from signal_diffusion.errors import InputError


def names(given: Sequence[str] | None) -> tuple[str, ...]:
    """Names that are given one by one, or with commas between them.

    >>> names(["ecg", "time,flag"])
    ('ecg', 'time', 'flag')
    """
    return tuple(name for word in given or () for name in words(word))


def words(given: str | None) -> list[str]:
    """Words between commas.

    >>> words("pesq, estoi"), words(None)
    (['pesq', 'estoi'], [])
    """
    return [word.strip() for word in (given or "").split(",") if word.strip()]


def levels(given: str | None) -> list[float]:
    """Decibels between commas; raises an InputError for what is no number or given twice.

    >>> levels("-5,0")
    [-5.0, 0.0]
    """
    try:
        found = [float(word) for word in words(given)]
    except ValueError:
        found = [float("nan")]
    if not all(abs(level) <= 100 for level in found) or len(set(found)) < len(found):
        raise InputError(f"snr is '{given}'; give different numbers of dB, e.g. 0,5,10")
    return found


def counts(given: str) -> list[int]:
    """Numbers of steps between commas; raises an InputError for what is none or given twice.

    >>> counts("1,4")
    [1, 4]
    """
    found = [int(word) if word.isdecimal() else 0 for word in words(given)]
    if not found or min(found) < 1 or len(set(found)) < len(found):
        raise InputError(f"steps is '{given}'; give different whole numbers from 1, e.g. 1,2,4")
    return found


def require_least(least: int, **numbers: int) -> None:
    """Raise an InputError where the number of an option is less than the least."""
    for name, number in numbers.items():
        if number < least:
            name = name.replace("_", "-")
            raise InputError(f"{name} is {number}; it must be {least} or more")


def command_line(context: typer.Context) -> str:
    """The command as it was given, its options by their long names."""
    line = ["signal-diffusion", context.info_name or ""]
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[parameter.name or ""]
        values = value if isinstance(value, (list, tuple)) else [value]
        name = [] if parameter.param_type_name == "argument" else [parameter.opts[-1]]
        line += [w for v in values for w in (name if v is True else [*name, str(v)])]
    return shlex.join(line)
