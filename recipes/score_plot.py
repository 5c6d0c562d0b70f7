"""A picture of readings and of how unusual their windows are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files import atomic
from signal_diffusion.files.atomic import require_writable
from signal_diffusion.plots.curves import INPUT, REMOVED
from signal_diffusion.plots.spectrograms import DRAWING, time_unit

#: Scores are drawn on a scale that is linear up to this and logarithmic above.
LINEAR = 10.0


def draw_scores(
    path: Path,
    readings: Array,
    scores: Array,
    *,
    rows: int,
    sample_rate: float,
    label: str,
    faulty: Array | None = None,
    force: bool = False,
) -> None:
    """Draw readings over time, and the scores of their windows below, into a PNG file.

    Args:
        path: the picture.
        readings: (n,).
        scores: (W,), of windows of so many rows.
        rows: of a window.
        sample_rate: Hz.
        label: of the readings, with their unit.
        faulty: (n,) what is shaded, None for nothing.
        force: replace a picture that exists.

    Raises:
        InputError: the suffix is not .png, or the file exists or can't be written.
    """
    from matplotlib.figure import Figure

    if path.suffix.lower() != ".png":
        raise InputError(f"{path} must have the suffix .png")
    require_writable(path, force=force)
    seconds = len(readings) / sample_rate
    unit, scale = time_unit(seconds)
    times = np.arange(len(readings)) / sample_rate / scale
    with atomic.writing(path) as partial, DRAWING:
        figure = Figure(figsize=(11, 5), dpi=100, layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.plot(times, readings, color=INPUT, lw=0.8)
        upper.set_ylabel(label, parse_math=False)
        lower.step(times[::rows][: len(scores)], scores, where="post", color=REMOVED, lw=1)
        if np.abs(scores).max() > LINEAR:
            lower.set_yscale("symlog", linthresh=LINEAR)
        lower.set_ylabel("score")
        lower.set_xlabel(f"time, {unit}")
        for axes in (upper, lower):
            axes.grid(alpha=0.3)
            if faulty is not None:
                shade = {"transform": axes.get_xaxis_transform(), "color": REMOVED, "lw": 0}
                axes.fill_between(times, 0, 1, where=faulty, alpha=0.15, **shade)
        figure.savefig(partial, format="png")
