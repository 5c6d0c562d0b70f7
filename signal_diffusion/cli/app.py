"""The command itself: its subcommands, and how mistakes and failures end."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

import signal_diffusion
from signal_diffusion.cli.benchmark_command import benchmark
from signal_diffusion.cli.denoise_command import denoise
from signal_diffusion.cli.evaluate_command import evaluate
from signal_diffusion.cli.generate_command import generate, vocode
from signal_diffusion.cli.memorisation_command import memorisation
from signal_diffusion.cli.messages import say
from signal_diffusion.cli.model_commands import TrainCommand, info, train
from signal_diffusion.cli.score_command import score
from signal_diffusion.errors import InputError, one_line, reason

#: The error of a wrong command line, which typer derives its own from.
UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="signal-diffusion",
    epilog="--traceback, anywhere on the line, shows where an error came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"signal-diffusion {signal_diffusion.__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
    ),
]


@app.callback()
def _main_options(version: Version = False) -> None:
    """Diffusion models for 1-D signals: clean recordings, train your own models."""


app.command()(denoise)
app.command(cls=TrainCommand, context_settings={"ignore_unknown_options": True})(train)
app.command()(info)
app.command()(score)
#: What generators can be asked for are options that only a model knows.
OPEN = {"ignore_unknown_options": True, "allow_extra_args": True}
app.command(context_settings=OPEN)(generate)
app.command()(vocode)
app.command()(memorisation)
app.command()(benchmark)
app.command()(evaluate)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; mistakes end in one line and exit code 2, failures in one line and 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != "--traceback"]
    try:
        with warnings.catch_warnings():
            if words[:1] != ["train"]:
                # NumPy warns of what damaged files hold, though the errors say enough.
                warnings.simplefilter("ignore")
            code = app(words or ["--help"], prog_name="signal-diffusion", standalone_mode=False)
    except UsageError as error:
        _stop(InputError(_usage(error)))
    except Exception as error:
        if "--traceback" in given:
            for line in traceback.format_exc().splitlines():
                say(line, err=True)
        _stop(error)
    raise SystemExit(code or 0)


def _usage(error: Any) -> str:
    """What is wrong with a command line, and the help that describes the right one."""
    command = error.ctx.command_path if error.ctx is not None else "signal-diffusion"
    message = error.format_message().rstrip(".")
    return f"{message[:1].lower()}{message[1:]} (see {command} --help)"


def _stop(error: Exception) -> NoReturn:
    mistake = _mistake(error)
    if mistake is not None:
        say(f"error: {one_line(mistake)}", err=True)
        raise SystemExit(2)
    say(f"error: {reason(error)} (--traceback shows where)", err=True)
    raise SystemExit(1)


def _mistake(error: BaseException | None) -> InputError | None:
    """The `InputError` behind an error: what builds objects from a configuration wraps it."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error
