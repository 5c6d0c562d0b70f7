"""`signal-diffusion train`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from signal_diffusion.errors import InputError


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Hydra overrides, e.g. experiment=speech_denoise trainer.max_time=..."),
    ] = None,
) -> None:
    """Train a model from a configuration and overrides of it."""
    from signal_diffusion.runs import run

    with configuration_mistakes():
        run(overrides or [])


@contextmanager
def configuration_mistakes() -> Iterator[None]:
    """What Hydra says of a configuration or an override, as an `InputError`."""
    # Hydra prints errors and exits by itself unless it is asked for all of them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    from hydra.errors import ConfigCompositionException, OverrideParseException
    from omegaconf.errors import MissingMandatoryValue

    try:
        yield
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} is missing: add {error.full_key}=...") from error
    except (ConfigCompositionException, OverrideParseException) as error:
        raise InputError(str(error)) from error
