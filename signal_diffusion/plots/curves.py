"""Pictures of readings of any length: what came, what was made of it, and what was removed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.calibration import Bands, spread
from signal_diffusion.dsp import Array
from signal_diffusion.files import atomic
from signal_diffusion.plots.spectrograms import DRAWING, require_matplotlib, require_png, time_unit
from signal_diffusion.plots.window import Asked, Busiest, Window, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Length of the window that is chosen, and the fewest and the most samples that it has: a line of
#: fewer is no signal, and one of more is a blot.
SECONDS, FEWEST, MOST = 10.0, 2000, 10_000
MOST_CHANNELS = 4
LONGEST_NAME, LONGEST_UNIT = 60, 20
#: Powers that far below the highest one are not drawn: they are rounding.
RANGE = 1e10
#: Readings up to which each gets a dot.
DOTS = 60
#: Frequencies up to which an axis of them is linear.
LINES = 30
INPUT, RESULT, REMOVED = "#8a96a3", "#0b4f9c", "#c2410c"


class Curves:
    """Input, result and what was removed of some channels, as lines over time and as spectra.

    What is drawn is a window of time: the one asked for, or of the windows of ten seconds (but
    2,000 samples at least and 10,000 at most) the one in which most was removed.

    Args:
        names, units: of the channels; "" where there is no unit. Four channels at most are drawn.
        sample_rate: Hz.
        frames: samples of each channel that will be pushed; None where that is not known.
        window: where it begins and ends; without an end it has ten seconds, as above.
        noise_std: (C,) of the white noise that was reckoned with, whose level is drawn.
        bands, scale: of the band around several draws, see `calibration.spread`.
        source: name of the recording, for the title.

    Raises:
        InputError: matplotlib is not installed, or the window holds no samples or too many.

    >>> import numpy as np
    >>> curves = Curves(["lead II"], ["mV"], 360, 3600)
    >>> curves.push(np.zeros((1, 3600)), np.zeros((1, 8, 3600)))
    """

    def __init__(
        self,
        names: Sequence[str],
        units: Sequence[str],
        sample_rate: float,
        frames: int | None = None,
        *,
        window: Window | None = None,
        noise_std: Array | None = None,
        bands: Bands | None = None,
        scale: Array | float = 1.0,
        source: str | None = None,
    ) -> None:
        require_matplotlib()
        self.names = [_shown(name, LONGEST_NAME) for name in names]
        self.units = [_shown(unit, LONGEST_UNIT) for unit in units]
        self.sample_rate, self.window = sample_rate, window
        self.bands, self.scale = bands, scale
        self.source = None if source is None else _shown(source, LONGEST_NAME)
        self.noise_std = np.zeros(len(names)) if noise_std is None else noise_std
        length = min(max(FEWEST, round(SECONDS * sample_rate)), MOST)
        self._chosen: Asked | Busiest = (
            Busiest(length) if window is None else Asked(*span(window, sample_rate, frames, length))
        )

    def push(self, noisy: Array, draws: Array) -> None:
        """The next samples: as they came (C, n), and the draws of the result (C, shots, n)."""
        if draws.shape[1] == 1:
            mean = low = high = draws[:, 0]
        else:
            mean, _, low, high = spread(draws, self.bands, self.scale)
        lines = np.stack([noisy, mean, low, high])[:, :MOST_CHANNELS]
        self._chosen.push(lines.astype(np.float64))

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Draw the window, once, into a PNG file.

        Raises:
            InputError: the suffix is not .png, the window holds nothing, or the file exists (and
                force is False) or can't be written.
        """
        path = require_png(path, force=force)
        first, lines = self._chosen.finish()
        with atomic.writing(path, force=force) as partial, DRAWING, warnings.catch_warnings():
            # Names may be in a script that matplotlib's fonts lack: it draws boxes, and says so.
            warnings.filterwarnings("ignore", "Glyph")
            self._drawn(first, lines).savefig(partial, format="png")

    def _drawn(self, first: int, lines: Array) -> Figure:
        """A figure of lines (4, C, n), of which the first sample is number `first`."""
        from matplotlib.figure import Figure

        count = lines.shape[1]
        figure = Figure(figsize=(11, 0.5 + 3.4 * count), dpi=100, layout="constrained")
        figure.suptitle(self._title(first, lines), x=0.01, ha="left", fontsize=11, parse_math=False)
        ratios = {"width_ratios": [2.6, 1], "height_ratios": [2, 1] * count}
        grid = figure.add_gridspec(2 * count, 2, **ratios)
        for channel, name, unit in zip(range(count), self.names, self.units, strict=False):
            upper = figure.add_subplot(grid[2 * channel, 0])
            lower = figure.add_subplot(grid[2 * channel + 1, 0], sharex=upper)
            beside_both = figure.add_subplot(grid[2 * channel : 2 * channel + 2, 1])
            own = lines[:, channel]
            times = (np.arange(lines.shape[2]) + first) / self.sample_rate
            _over_time(upper, lower, own, times, self.bands is not None)
            _spectra(beside_both, own, self.sample_rate, unit, float(self.noise_std[channel]))
            upper.set_title(name, loc="left", fontsize=11, fontweight="bold", parse_math=False)
            upper.set_ylabel(unit or "reading", parse_math=False)
            lower.set_ylabel(f"removed,\n{unit}" if unit else "removed", parse_math=False)
        figure.align_ylabels()
        return figure

    def _title(self, first: int, lines: Array) -> str:
        """What the picture shows, in a line."""
        count, length = lines.shape[1:]
        unit, scale = time_unit(length / self.sample_rate)
        begin, end = (place / self.sample_rate / scale for place in (first, first + length))
        of = self.source or "the recording"
        text = f"From {begin:,.6g} to {end:,.6g} {unit} of {of}"
        if isinstance(self._chosen, Busiest) and self._chosen.seen > length:
            text += ", where most was removed"
        if len(self.names) > count:
            text += f"; the first {count} of {len(self.names)} channels"
        return text


def _shown(text: str, longest: int) -> str:
    """A name on one line, and not too long."""
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _over_time(upper: Axes, lower: Axes, lines: Array, times: Array, calibrated: bool) -> None:
    """Input and result (4, n) over each other, and below them what was removed."""
    noisy, mean, low, high = lines
    step = times[1] - times[0] if len(times) > 1 else 1.0
    unit, scale = time_unit(times[-1] - times[0] + step)
    dots = "." if len(times) <= DOTS else ""
    if (low != high).any():
        band = "90 % band" if calibrated else "5 % to 95 % of the draws"
        upper.fill_between(times / scale, low, high, color=RESULT, alpha=0.25, lw=0, label=band)
    upper.plot(times / scale, noisy, color=INPUT, lw=0.8, marker=dots, zorder=1, label="input")
    upper.plot(times / scale, mean, color=RESULT, lw=1.1, marker=dots, label="result")
    lower.plot(times / scale, noisy - mean, color=REMOVED, lw=0.8, marker=dots)
    upper.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9)
    upper.tick_params(labelbottom=False)
    lower.set_xlim(times[0] / scale, (times[-1] + step) / scale)
    lower.set_xlabel(f"time, {unit}")
    for axes in (upper, lower):
        axes.ticklabel_format(useOffset=False)
        axes.grid(alpha=0.3)


def _spectra(axes: Axes, lines: Array, rate: float, unit: str, noise_std: float) -> None:
    """Power spectra of input, result and what was removed, of lines (4, n), and of white noise."""
    noisy, mean = lines[:2]
    axes.set_title("power spectra", loc="left", fontsize=11)
    frequencies, powers = _spectrum(np.stack([noisy, mean, noisy - mean]), rate)
    top = powers.max(initial=0)
    if top == 0:
        axes.text(0.5, 0.5, "no power", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    powers[powers < top / RANGE] = np.nan
    # What is removed may hide the input, so that this is a broad line behind it.
    axes.plot(frequencies, powers[0], color=INPUT, lw=3, alpha=0.6, label="input")
    axes.plot(frequencies, powers[1], color=RESULT, lw=1, label="result")
    axes.plot(frequencies, powers[2], color=REMOVED, lw=1, label="removed")
    if noise_std > 0:
        label = f"white noise of {noise_std:.3g} {unit}".rstrip()
        axes.axhline(2 * noise_std**2 / rate, color="black", ls="--", lw=1, label=label)
    axes.set_xlim(frequencies[0], frequencies[-1])
    axes.set_xscale("log" if len(frequencies) > LINES else "linear")
    axes.set_yscale("log")
    # Below the axes, where it hides no line.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=9)
    axes.set_xlabel("frequency, Hz")
    squared = "1" if not unit else f"{unit}²" if unit.isalpha() else f"({unit})²"
    axes.set_ylabel(f"power density, {squared}/Hz", parse_math=False)
    axes.grid(alpha=0.3)


def _spectrum(signals: Array, rate: float) -> tuple[Array, Array]:
    """Frequencies (F,) in Hz above 0, and the power densities (K, F) of signals (K, n)."""
    from scipy.signal import welch

    length = signals.shape[1]
    if length < 4:
        return np.zeros(0), np.zeros((len(signals), 0))
    frequencies, powers = welch(signals, rate, nperseg=min(length, max(256, length // 3)))
    return frequencies[1:], powers[:, 1:]
