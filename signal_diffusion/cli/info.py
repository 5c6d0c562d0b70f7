"""`signal-diffusion info`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer


def info(
    model: Annotated[
        str | None, typer.Argument(help="Shipped model's name, or a model file; none: list them.")
    ] = None,
) -> None:
    """Tell what a model file holds, or list the shipped models."""
    from signal_diffusion.facts import model_facts, shipped_models

    rows = shipped_models() if model is None else model_facts(model)
    typer.echo("\n".join(_columns(rows)))


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join(row).rstrip() for row in padded]
