"""The options that several commands share, by the panel of the help, and how words are parsed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from signal_diffusion.errors import InputError

if TYPE_CHECKING:
    from signal_diffusion.denoiser import NetworkDenoiser
    from signal_diffusion.tables.columns import Columns as TableColumns

#: The names of `samplers.SAMPLERS`, for help texts, which must not load torch.
SAMPLER_NAMES = "ddim, ddpm, heun, dpmpp_2m, few_step"
#: ffmpeg's names, which `audio.pipes.RAW_FORMATS` maps to libsndfile's.
RAW_FORMATS = ("u8", "s16le", "s24le", "s32le", "f32le", "f64le", "mulaw", "alaw")
IO, HOW_MUCH, SAMPLING, MANY = "Input and output", "Strength", "Sampling", "Many files"
TABLES = "Tables of sensor readings: CSV, Parquet, NPY, NPZ, WFDB"


def option(help: str, *names: str, panel: str, metavar: str | None = None) -> Any:
    """An option of the command line, named as the parameter unless names are given."""
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)


def setting(
    default: Any, help: str, *names: str, panel: str = IO, metavar: str | None = None
) -> Any:
    """An option with its default, as the value of a parameter; see `option`."""
    return typer.Option(default, *names, help=help, rich_help_panel=panel, metavar=metavar)


def argument(help: str, metavar: str) -> Any:
    """A positional argument of the command line."""
    return typer.Argument(help=help, metavar=metavar, show_default=False)


Force = Annotated[bool, option("Replace existing outputs.", "--force", panel=IO)]
Rate = Annotated[
    float | None,
    option(
        "Sample rate of raw PCM in a pipe, or of tables without time stamps.",
        panel=IO,
        metavar="HZ",
    ),
]
Quiet = Annotated[bool, option("Print errors only.", "--quiet", panel=IO)]
Columns = Annotated[
    list[str] | None,
    option(
        "Names of the columns to use, repeated or with commas (default: all numeric columns).",
        panel=TABLES,
    ),
]
Skip = Annotated[list[str] | None, option("Names of columns to leave unchanged.", panel=TABLES)]
Time = Annotated[str | None, option("Name of the time column, where it isn't found.", panel=TABLES)]
Delimiter = Annotated[
    str | None, option("Delimiter between fields, where it isn't found.", panel=TABLES)
]

MODEL = "Name of a shipped model, or a model file."
Model = Annotated[str, option(MODEL, panel=SAMPLING)]
ModelArgument = Annotated[str, argument(MODEL, "MODEL")]
Sampler = Annotated[str, option(f"Sampler: {SAMPLER_NAMES}, or an import path.", panel=SAMPLING)]
Seed = Annotated[int, option("Seed of the random noise.", panel=SAMPLING)]
NoiseStd = Annotated[
    float | None,
    option(
        "Standard deviation of the noise, for models whose process doesn't start at a recording.",
        panel=SAMPLING,
    ),
]
Device = Annotated[str, option("Device: auto, cpu, cuda or mps.", panel=SAMPLING)]
Jobs = Annotated[int, option("Number of files processed at the same time.", panel=MANY)]


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


def channels_of(channels: Sequence[str]) -> tuple[bool, int | None]:
    """Whether channels are mixed, and the number of those of raw PCM.

    Raises:
        InputError: the words contradict each other or can't be read.

    >>> channels_of(["mix", "2"])
    (True, 2)
    """
    ways = {word for word in channels if word in ("each", "mix")}
    words = [word for word in channels if word not in ways]
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            raise InputError(f"channels is '{word}': give each, mix or, for raw PCM, their number")
    numbers = {int(word) for word in words}
    if len(ways) > 1 or len(numbers) > 1:
        raise InputError(f"channels is {' and '.join(channels)}: choose one")
    return "mix" in ways, next(iter(numbers), None)


def strength_of(strength: float | None, max_attenuation: float | None) -> float:
    """The strength: 1 - 10^(-dB / 20) where an attenuation in dB is given.

    >>> strength_of(None, None), round(strength_of(None, 20), 6)
    (1.0, 0.9)
    """
    if max_attenuation is None:
        return 1.0 if strength is None else strength
    if strength is not None:
        raise InputError("strength and max-attenuation say the same in two ways: give one of them")
    if not max_attenuation >= 0:
        raise InputError(f"max-attenuation is {max_attenuation} dB; it must be 0 or more")
    return float(1 - 10 ** (-max_attenuation / 20))


def loaded(model: str, device: str) -> NetworkDenoiser:
    """A model on a device, both by name.

    Raises:
        InputError: there is no such model or device.
    """
    from signal_diffusion.denoiser import Denoiser
    from signal_diffusion.streaming.settings import device_named

    return Denoiser.from_pretrained(model).to(device_named(device))


def table_columns(
    rate: float | None,
    channels: Sequence[str] | None,
    time: str | None,
    delimiter: str | None,
    skip: Sequence[str] | None,
) -> TableColumns:
    """The options about tables as one."""
    from signal_diffusion.tables.columns import Columns

    return Columns(rate, names(channels) or None, time, delimiter, names(skip))


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
