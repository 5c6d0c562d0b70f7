"""`signal-diffusion train`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from signal_diffusion.cli.options import argument
from signal_diffusion.errors import InputError

#: What Hydra takes beside overrides.
HYDRA = (
    *("--cfg", "--config-dir", "--config-name", "--config-path", "--info", "--multirun"),
    *("--package", "--resolve", "--run", "-c", "-cd", "-cn", "-cp", "-i", "-m", "-p", "-r"),
)

Overrides = Annotated[
    list[str] | None,
    argument("Settings, e.g. experiment=speech_denoise trainer.max_steps=1000.", "NAME=VALUE"),
]


class TrainCommand(TyperCommand):
    """A command whose help ends with a list of the experiments."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from signal_diffusion.training.experiments import experiments

        super().format_help(ctx, formatter)
        typer.echo(" Experiments (experiment=NAME):\n")
        for name, summary in experiments().items():
            typer.echo(f"   {name:18} {summary}")


def train(overrides: Overrides = None) -> None:
    """Train a model from a configuration and overrides of it."""
    given = overrides or []
    for word in given:
        if word.startswith("-") and word.partition("=")[0] not in HYDRA:
            raise InputError(
                f"no such option: {word}; settings are given as NAME=VALUE, "
                "e.g. experiment=speech_denoise"
            )
    from signal_diffusion.training.runs import configuration_mistakes, run

    with configuration_mistakes():
        run(given)
