"""Pictures of many short signals: a grid of their spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from signal_diffusion.files import atomic
from signal_diffusion.plots.spectrograms import (
    DRAWING,
    as_png,
    colours,
    require_matplotlib,
    spectrogram,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Signals of a grid, at most, and in a row of it.
MOST, ROW = 40, 10
RANGE_DB = 60.0


def draw_grid(
    path: Path,
    signals: Sequence[NDArray[Any]],
    titles: Sequence[str],
    sample_rate: float,
    *,
    columns: int = ROW,
    force: bool = False,
) -> None:
    """Draw the spectrograms of signals (L,) into a PNG, each on the scale of its own loudest spot.

    Args:
        path: of the PNG.
        signals: short ones, `MOST` at most are drawn.
        titles: one for each.
        sample_rate: Hz.
        columns: signals in a row.
        force: replace a file that exists.

    Raises:
        InputError: the file exists or can't be written.
    """
    require_matplotlib()
    with DRAWING:
        picture = as_png(_figure(list(signals)[:MOST], titles, sample_rate, columns))
    atomic.write(path, picture, force=force)


def _figure(
    signals: Sequence[NDArray[Any]], titles: Sequence[str], sample_rate: float, columns: int
) -> Figure:
    from matplotlib.figure import Figure

    columns = min(columns, len(signals))
    rows = -(-len(signals) // columns)
    figure = Figure(figsize=(1.2 * columns + 0.5, 1.35 * rows + 0.3), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in panels.flat[len(signals) :]:
        axes.set_visible(False)
    for axes, signal, title in zip(panels.flat, signals, titles, strict=False):
        level = 10 * np.log10(spectrogram(signal, sample_rate) + 1e-18)
        end = len(signal) / sample_rate
        axes.imshow(
            level.T,
            origin="lower",
            aspect="auto",
            cmap=colours(),
            vmin=level.max() - RANGE_DB,
            vmax=level.max(),
            extent=(0, end, 0, sample_rate / 2000),
        )
        axes.set_title(title, fontsize=8, parse_math=False)
        axes.tick_params(labelsize=7)
    figure.supxlabel("time, s", fontsize=8)
    figure.supylabel("frequency, kHz", fontsize=8)
    return figure
