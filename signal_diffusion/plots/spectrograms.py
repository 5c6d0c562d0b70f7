"""Pictures of recordings of any length, drawn from blocks in bounded memory."""

from __future__ import annotations

import importlib.util
import io
import math
import operator
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError, install
from signal_diffusion.files import atomic
from signal_diffusion.files.atomic import require_writable

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


WINDOW_SECONDS = 0.032
LEAST_WINDOW = 64
COLUMNS = 1200
ROWS = 512
#: Samples that are transformed at once.
BATCH = 1 << 19
RANGE_DB = 60.0
#: Below every sample format's noise: silence is drawn at the foot of a scale that ends here.
LEAST_TOP_DB = -110.0
#: Powers that stand for silence, and for what is too large to be squared.
SILENCE, LOUDEST = 1e-18, 1e38
COLOURS = 32
PNG_COLOURS = 128
#: Seconds that a picture must span for a unit of time, its name, and its own seconds.
TIMES = (
    *((4 * 86400, "days", 86400), (7200, "h", 3600), (240, "min", 60)),
    *((0.2, "s", 1), (2e-4, "ms", 1e-3), (0, "µs", 1e-6)),
)
#: matplotlib keeps caches which are not made for threads.
DRAWING = threading.Lock()


class Spectrograms:
    """Spectrograms of several signals of one recording, one under the other on one scale.

    A full-scale sine lies at 0 dB. Where a column of the picture holds several frames, or a signal
    several channels, their mean power is drawn.

    Args:
        titles: one for each signal.
        sample_rate: Hz.
        frames: samples of each channel that will be pushed, about; None where that is not known.

    Raises:
        InputError: matplotlib is not installed.

    >>> import numpy as np
    >>> spectrograms = Spectrograms(["before", "after"], 16000)
    >>> spectrograms.push(np.zeros((1, 4000)), np.zeros((1, 4000)))
    """

    def __init__(
        self, titles: Sequence[str], sample_rate: float, frames: int | None = None
    ) -> None:
        require_matplotlib()
        self.titles, self.sample_rate = list(titles), sample_rate
        window = _window_length(sample_rate, frames)
        hop = max(1, window // 4 if frames is None else min(window // 4, -(-frames // COLUMNS)))
        pool = 1 if frames is None else max(1, -(-frames // (hop * COLUMNS)))
        self._spectrograms = [_Spectrogram(window, hop, pool) for _ in self.titles]

    def push(self, *blocks: Array) -> None:
        """The next samples (C, n) of every signal, in the order of the titles."""
        for spectrogram, block in zip(self._spectrograms, blocks, strict=True):
            spectrogram.push(block)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Draw what was pushed, once, into a PNG file.

        Raises:
            InputError: the suffix is not .png, nothing was pushed, or the file exists (and force
                is False) or can't be written.
        """
        path = require_png(path, force=force)
        atomic.write(path, self._png(), force=force)

    def _png(self) -> bytes:
        powers = [spectrogram.finish() for spectrogram in self._spectrograms]
        first = self._spectrograms[0]
        seconds = first.length / self.sample_rate
        width = len(powers[0]) * first.hop * first.pool / self.sample_rate
        with DRAWING:
            return as_png(_drawn(self.titles, powers, self.sample_rate, seconds, width))


class _Spectrogram:
    """The mean power (columns, rows) of a signal whose blocks (C, n) are pushed.

    Frames of `window` samples lie `hop` samples apart, the first centred on the first sample;
    `pool` of them make a column. Where the columns pass twice their limit, pairs are merged.
    """

    def __init__(self, window: int, hop: int, pool: int) -> None:
        self.window, self.hop, self.pool = window, hop, pool
        self.length = 0
        self._taper = np.hanning(window + 1)[:-1].astype(np.float32)
        self._tail: Array | None = None
        self._frames = 0
        self._sums = np.zeros((2 * COLUMNS, min(ROWS, window // 2)), np.float32)

    def push(self, block: Array) -> None:
        self.length += block.shape[1]
        for start in range(0, block.shape[1], BATCH):
            self._take(block[:, start : start + BATCH])

    def finish(self) -> Array:
        """Power (columns, rows), of which there is at least one column."""
        if self._tail is None or self.length == 0:
            raise InputError("there are no samples to draw")
        self._take(np.zeros((len(self._tail), self.window)))
        wanted = -(-self.length // self.hop)
        used = -(-wanted // self.pool)
        counts = np.minimum(self.pool, wanted - self.pool * np.arange(used))
        power = self._sums[:used] / counts[:, None]
        return np.nan_to_num(power, nan=LOUDEST, posinf=LOUDEST) + SILENCE

    def _take(self, block: Array) -> None:
        if self._tail is None:
            self._tail = np.zeros((len(block), self.window // 2), np.float32)
        joined = np.concatenate([self._tail, block], axis=1, dtype=np.float32)
        count = max(0, 1 + (joined.shape[1] - self.window) // self.hop)
        with np.errstate(over="ignore", invalid="ignore"):
            for powers in self._powers(joined, count):
                self._add(powers)
        self._tail = joined[:, count * self.hop :].copy()

    def _powers(self, samples: Array, count: int) -> Iterator[Array]:
        """Mean power (n, rows) over the channels of the first frames, some at a time."""
        batch = max(1, BATCH // self.window)
        for first in range(0, count, batch):
            start, last = first * self.hop, min(count, first + batch) - 1
            part = samples[:, start : last * self.hop + self.window]
            power = reduce(operator.add, map(self._power, part))
            yield power / np.float32(len(part))

    def _power(self, samples: Array) -> Array:
        """Power (n, rows) of every frame of one channel (L,)."""
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.window)[:: self.hop]
        spectra = np.fft.rfft(frames * self._taper)[:, : self.window // 2]
        spectra *= 2 / self._taper.sum()
        power = spectra.real**2 + spectra.imag**2
        return power.reshape(len(frames), self._sums.shape[1], -1).mean(-1).astype(np.float32)

    def _add(self, powers: Array) -> None:
        # Frames past the end of the signal, which the last push of zeros makes, are left out.
        powers = powers[: max(0, -(-self.length // self.hop) - self._frames)]
        while self._frames + len(powers) > 2 * COLUMNS * self.pool:
            self._merge()
        columns = (self._frames + np.arange(len(powers))) // self.pool
        np.add.at(self._sums, columns, powers)
        self._frames += len(powers)

    def _merge(self) -> None:
        self._sums[:COLUMNS] = self._sums[0::2] + self._sums[1::2]
        self._sums[COLUMNS:] = 0
        self.pool *= 2


def require_matplotlib() -> None:
    """Raise an InputError where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(f"a plot needs matplotlib, which is not installed: {install('plot')}")


def require_png(path: str | Path, *, force: bool) -> Path:
    """The path of a PNG that may be written.

    Raises:
        InputError: the suffix is another one, or the file exists (and force is False).
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} must have the suffix .png")
    require_writable(path, force=force)
    return path


Picture = TypeVar("Picture", bound="Savable")


class Savable(Protocol):
    def save(self, path: str | Path, *, force: bool = False) -> None: ...


@contextmanager
def saving(picture: Picture, path: Path, force: bool) -> Iterator[Picture]:
    """A picture to draw; its PNG file is there when the block ends without an error.

    Raises:
        InputError: the file can't be written; at once, where that can be foreseen.
    """
    require_writable(path, force=force)
    yield picture
    picture.save(path, force=force)


def spectrogram(signal: Array, sample_rate: float) -> Array:
    """Power (columns, rows) of the frames of a short signal (L,), as the pictures have it."""
    window = _window_length(sample_rate, len(signal))
    drawn = _Spectrogram(window, max(1, window // 8), 1)
    drawn.push(signal[None])
    return drawn.finish()


def _window_length(sample_rate: float, frames: int | None) -> int:
    """A power of two of about 32 ms, or shorter where the recording has few samples."""
    longest = max(LEAST_WINDOW, 2 ** round(math.log2(max(1, WINDOW_SECONDS * sample_rate))))
    if frames is None:
        return longest
    return min(longest, max(16, 2 ** int(math.log2(max(1, frames / 4)))))


def _drawn(
    titles: Sequence[str], powers: Sequence[Array], sample_rate: float, seconds: float, width: float
) -> Figure:
    """A figure with a panel for each power (columns, rows), which covers `width` seconds."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    unit, scale = time_unit(seconds)
    slow = sample_rate < 2000
    highest = sample_rate / (2 if slow else 2000)
    top = top_level(powers)
    figure = Figure(figsize=(9, 0.6 + 2 * len(titles)), dpi=100, layout="constrained")
    panels = figure.subplots(len(titles), sharex=True, squeeze=False)[:, 0]
    for axes, title, power in zip(panels, titles, powers, strict=True):
        axes.imshow(
            power.T,
            origin="lower",
            aspect="auto",
            cmap=colours(),
            norm=LogNorm(10 ** ((top - RANGE_DB) / 10), 10 ** (top / 10)),
            # Pixels are means of power: means of dB would hide a thin line above silence.
            interpolation_stage="data",
            extent=(0, width / scale, 0, highest),
        )
        axes.set_title(title, loc="left", fontsize=11, parse_math=False)
        axes.set_ylabel("frequency, Hz" if slow else "frequency, kHz")
    axes.set_xlim(0, seconds / scale)
    axes.set_xlabel(f"time, {unit}")
    mapped = ScalarMappable(Normalize(top - RANGE_DB, top), colours())
    figure.colorbar(mapped, ax=panels, label="level, dB of full scale", pad=0.015, aspect=40)
    return figure


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit of an axis that spans so many seconds, and the unit's own seconds.

    >>> time_unit(600)
    ('min', 60)
    """
    return next((unit, own) for least, unit, own in TIMES if seconds >= least)


def top_level(powers: Sequence[Array]) -> float:
    """The loudest level that the scale shows, in dB: a few pixels may lie above."""
    loudest = 10 * math.log10(max(np.percentile(power, 99.9) for power in powers))
    return max(LEAST_TOP_DB, 5 * math.ceil(loudest / 5))


def colours() -> Colormap:
    """The colours of levels."""
    from matplotlib import colormaps

    return colormaps["magma"].resampled(COLOURS)


def as_png(figure: Figure) -> bytes:
    """A small PNG: the colour scale, and greys for the smooth edges of the letters."""
    from PIL import Image

    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png")
    picture = Image.open(whole).convert("RGB")
    picture.quantize(PNG_COLOURS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()
