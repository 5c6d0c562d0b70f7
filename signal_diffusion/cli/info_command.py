"""`signal-diffusion info`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer


def info(
    model: Annotated[
        str | None,
        typer.Argument(help="Shipped model, model file, or recording; none: list the models."),
    ] = None,
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
    typer.echo("\n".join(_columns(rows)))


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join(row).rstrip() for row in padded]
