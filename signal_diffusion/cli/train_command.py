"""`signal-diffusion train`."""

from __future__ import annotations

from typing import Annotated

import typer


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Hydra overrides, e.g. experiment=speech_denoise trainer.max_time=..."),
    ] = None,
) -> None:
    """Train a model from a configuration and overrides of it."""
    from signal_diffusion.training.runs import configuration_mistakes, run

    with configuration_mistakes():
        run(overrides or [])
