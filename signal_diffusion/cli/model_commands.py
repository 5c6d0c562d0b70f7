"""`signal-diffusion train`, which makes a model file, and `info`, which describes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from signal_diffusion.cli.messages import printable, say
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


Model = Annotated[
    str | None,
    argument("Shipped model, model file or recording (default: list the shipped models).", "NAME"),
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
    from signal_diffusion.training.configuration import configuration_mistakes
    from signal_diffusion.training.runs import run

    with configuration_mistakes():
        run(given)


def info(
    model: Model = None,
) -> None:
    """Show what a model file holds or where a recording comes from, or list the shipped models."""
    from signal_diffusion.data.corpus import SUFFIXES
    from signal_diffusion.model_facts import model_facts, recording_facts, shipped_models

    if model is None:
        rows = shipped_models()
    elif Path(model).suffix.lower() in SUFFIXES:
        rows = recording_facts(Path(model))
    else:
        rows = model_facts(model)
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say("  ".join(padded).rstrip())
