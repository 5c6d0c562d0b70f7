"""How a report draws stretches: spectrograms or waveforms, four on one scale."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from signal_diffusion.plots import RANGE_DB, colours, spectrogram, top_level
from signal_diffusion.tasks.buffers import Array
from signal_diffusion.tasks.report_clips import Stretch, busiest_channel, data_uri

#: Pixels of a spectrogram at most.
COLUMNS, ROWS = 480, 160
#: Parts of a waveform, of each of which the least and the greatest are drawn.
PARTS = 500
#: Units in which waveforms are drawn.
WIDE, HIGH = 1000, 200
#: Stops of the bar that tells what colours mean.
STOPS = 9


@dataclass(frozen=True)
class Panel:
    """A picture without its axes, which the page writes beside it.

    Attributes:
        image: data URI of a spectrogram, or "".
        line: path of a waveform in `WIDE` by `HIGH` units, or "".
        top, bottom: what stands at the ends of its upright axis.
    """

    image: str
    line: str
    top: str
    bottom: str


@dataclass(frozen=True)
class Scale:
    """What the pictures of a file have in common, in words."""

    told: str
    low: str = ""
    high: str = ""


def colour_bar() -> str:
    """The colours of levels from low to high, as a gradient of a style sheet."""
    from matplotlib.colors import to_hex

    stops = [to_hex(colours()(place)) for place in np.linspace(0, 1, STOPS)]
    return f"linear-gradient(to right, {', '.join(stops)})"


def spectrograms(stretch: Stretch) -> tuple[list[Panel], Scale]:
    """The spectrograms of a stretch, of which the means over channels are drawn."""
    powers = [_power(line, stretch.sample_rate) for line in np.nan_to_num(stretch.lines)]
    top = top_level(powers)
    highest = f"{stretch.sample_rate / 2000:g} kHz"
    panels = [Panel(_image(power, top), "", highest, "0 kHz") for power in powers]
    low, high = (f"{level:g} dB".replace("-", "−") for level in (top - RANGE_DB, top))
    return panels, Scale("Level, dB of full scale", low, high)


def waveforms(stretch: Stretch) -> tuple[list[Panel], Scale]:
    """The waveforms of the channel of a stretch from which most was removed."""
    channel = busiest_channel(list(stretch.lines))
    lines = stretch.lines[:, channel]
    middles = np.array([_middle(line) for line in lines])
    around = lines - middles[:, None]
    half = 1.05 * float(np.nanmax(np.abs(around), initial=0)) or 1.0
    panels = [
        Panel("", _line(line, half), *_ends(middle, half))
        for line, middle in zip(around, middles, strict=True)
    ]
    count = stretch.lines.shape[1]
    which = f"Channel {channel + 1} of {count}, from which most was removed. " if count > 1 else ""
    return panels, Scale(f"{which}All four axes span {2 * half:.4g} of the recording's own units.")


def _power(line: Array, sample_rate: float) -> Array:
    """Power (columns, rows) of channels (C, n), of no more pixels than are drawn."""
    channels = [spectrogram(channel, sample_rate) for channel in line]
    power: Array = np.mean(channels, axis=0)
    for axis, most in enumerate((COLUMNS, ROWS)):
        power = _pooled(power, axis, most)
    return power


def _pooled(power: Array, axis: int, most: int) -> Array:
    """Means of neighbours along an axis, so that at most so many are left."""
    length = power.shape[axis]
    count = min(length, most)
    starts = np.arange(count) * length // count
    sizes = np.diff([*starts, length])
    sums = np.add.reduceat(power, starts, axis=axis)
    return sums / (sizes[:, None] if axis == 0 else sizes)


def _image(power: Array, top: float) -> str:
    """Power (columns, rows) as a small PNG, from `RANGE_DB` below the top to the top."""
    from PIL import Image

    scale = colours()
    levels = (10 * np.log10(power.T[::-1]) - top) / RANGE_DB + 1
    places = np.clip(levels * scale.N, 0, scale.N - 1).astype(np.uint8)
    picture, file = Image.fromarray(places), io.BytesIO()
    picture.putpalette((scale(np.arange(scale.N), bytes=True)[:, :3]).tobytes())
    picture.save(file, "png", optimize=True)
    return data_uri("image/png", file.getvalue())


def _middle(line: Array) -> float:
    """Half-way between the least and the greatest of a line, or 0 where all are missing."""
    known = line[np.isfinite(line)]
    return float(known.min() / 2 + known.max() / 2) if known.size else 0.0


def _ends(middle: float, half: float) -> tuple[str, str]:
    """What stands at the top and at the bottom of a waveform's axis."""
    digits = max(0, 2 - math.floor(math.log10(2 * half)))
    high, low = (f"{middle + sign * half:.{min(digits, 9)}f}" for sign in (1, -1))
    return high.replace("-", "−"), low.replace("-", "−")


def _line(line: Array, half: float) -> str:
    """A path through samples (n,), or, of many, through the least and the greatest of parts."""
    places, values = _thinned(line)
    x = WIDE * places / max(1, len(line) - 1)
    y = HIGH / 2 * (1 - values / half)
    return _path(x, y)


def _thinned(line: Array) -> tuple[Array, Array]:
    """Places and values (k,) that look like a line (n,)."""
    if len(line) <= 2 * PARTS:
        return np.arange(len(line)), line
    starts = np.arange(PARTS) * len(line) // PARTS
    ends = [np.minimum.reduceat(line, starts), np.maximum.reduceat(line, starts)]
    return np.repeat(starts, 2), np.stack(ends, axis=1).reshape(-1)


def _path(x: Sequence[float] | Array, y: Sequence[float] | Array) -> str:
    """Drawing commands through points, with a gap where one is missing."""
    words, pen = [], "M"
    for across, down in zip(x, y, strict=True):
        if math.isfinite(down):
            words.append(f"{pen}{across:.0f} {down:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(words)
