"""The errors of a denoiser on windows of readings, at several levels of noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import overlapping
from signal_diffusion.dsp.robust import Scale, median_and_deviation
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import require_finite_result
from signal_diffusion.noise import Noise

#: Noise over the readings' own spread at which errors are looked at.
LEVELS = (0.3, 1.0, 4.0)
#: Readings that are denoised at once, at least a window of all channels.
PIECE = 1 << 16
#: Deviation of errors that don't vary.
LEAST = 1e-6


@dataclass(frozen=True)
class Usual:
    """Errors on readings without faults, by level and channel (levels, C)."""

    middle: Array
    deviation: Array

    @staticmethod
    def of(errors: Array) -> Usual:
        """What is usual by errors (W, levels, C) of readings that are mostly without faults.

        NaN are left out; of a channel with nothing else nothing is known, which is NaN.
        """
        complete = np.asarray(~np.isnan(errors).any(axis=1))
        each = [median_and_deviation(errors[rows, :, c]) for c, rows in enumerate(complete.T)]
        middle, deviation = (np.stack(parts, axis=-1) for parts in zip(*each, strict=True))
        return Usual(middle, np.maximum(deviation, LEAST))

    def scores(self, errors: Array) -> Array:
        """Errors (W, levels, C) as deviations from the median, averaged over the levels: (W, C)."""
        return np.asarray(((errors - self.middle) / self.deviation).mean(axis=1))


@dataclass(frozen=True)
class Known:
    """What a model's card holds of readings without faults, see `anomaly.learn_usual`.

    Attributes:
        columns: names of the channels; None where the model is for any.
        window: rows of a window.
        usual: errors of such windows; None where they are not for today's `LEVELS`.
        scale: of the readings; None where each file has its own.
    """

    columns: tuple[str, ...] | None = None
    window: int | None = None
    usual: Usual | None = None
    scale: Scale | None = None

    @staticmethod
    def of(card: Mapping[str, Any]) -> Known:
        """The entry of a card.

        Raises:
            InputError: it holds something else.
        """
        if "readings" not in card:
            return Known()
        try:
            entry = dict(card["readings"])
            names = entry.get("columns")
            columns = None if names is None else tuple(map(str, list(names)))
            window = entry.get("window")
            if window is not None and type(window) is not int:
                raise ValueError(f"window is {window!r}")
            count, usual, scale = len(columns or ()), None, None
            if "median" in entry and entry.get("levels") == list(LEVELS):
                usual = Usual(*_held(entry, ("median", "deviation"), (len(LEVELS), count)))
            if "scale" in entry:
                scale = Scale(*_held(entry["scale"], ("middle", "spread"), (count, 1)))
                if not np.isfinite([scale.middle, scale.spread]).all():
                    raise ValueError("its scale is not finite")
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise InputError(f"the model's card holds damaged readings: {error}") from error
        return Known(columns, window, usual, scale)


def _held(entry: Any, names: tuple[str, str], shape: tuple[int, int]) -> tuple[Array, Array]:
    """Medians and deviations of a shape; NaN stands for those that are not known."""
    middle, spread = (np.array(entry[name], np.float64) for name in names)
    if middle.shape != shape or spread.shape != shape or (spread <= 0).any():
        raise ValueError(f"its {' and '.join(names)} must have the shape {shape}, the second > 0")
    return middle, spread


@torch.no_grad()
def window_errors(
    denoiser: NetworkDenoiser,
    blocks: Iterable[Array],
    channels: int,
    rows: int,
    *,
    missing: Iterable[Array] | None = None,
    seed: int = 0,
    piece: int = PIECE,
) -> Iterator[Array]:
    """The errors (levels, C) of each window of some readings, however these are cut into blocks.

    Readings that were filled in don't count; where they are more than half of a window's, its
    error is NaN.

    Args:
        blocks: (C, n), of a median of 0 and a deviation of 1.
        channels: C.
        rows: of a window.
        missing: masks of what was filled in, in step with the blocks; None means nothing.
        seed: of the noise.
        piece: readings that are denoised at once.
    """
    state = state_channels(denoiser)
    batch = [(n, 0) for n in range(channels // state)]
    noise = Noise(seed, rows=batch, channels=state)
    unit = math.lcm(rows, denoiser.hop)
    size = max(1, piece // (channels * unit)) * unit
    context = denoiser.context()
    if context is None:
        raise InputError("this model sees the whole recording at once: it can't score windows")
    before, after = context
    before = math.ceil(before / denoiser.hop) * denoiser.hop
    # Readings (C, n) over what tells which were filled in, (2C, n).
    if missing is not None:
        blocks = map(np.concatenate, zip(blocks, missing, strict=False))
    for start, past, both in overlapping(blocks, size=size, before=before, after=after):
        x, filled = both[:channels], both[channels:, past : past + size] > 0
        given = torch.from_numpy(np.ascontiguousarray(x, np.float32))
        given = given.reshape(len(batch), state, -1).to(next(denoiser.parameters()).device)
        draws = [noise(n, start - past, given.shape[-1]).to(given) for n in range(len(LEVELS))]
        errors = torch.stack(
            [
                squared_errors(denoiser, given, torch.tensor(level), z)[0]
                for level, z in zip(LEVELS, draws, strict=True)
            ]
        ).reshape(len(LEVELS), channels, -1)
        inner = errors[..., past : past + size].cpu().double().numpy()
        require_finite_result(inner, of="the model's error")
        yield from _windows(np.where(filled, np.nan, inner) if filled.size else inner, rows)


def squared_errors(
    denoiser: NetworkDenoiser, x: Tensor, level: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """(x - D(x + level z; level))^2 of states (B, K, n) of deviation 1, and the times of D.

    The level is a scalar or (B, 1, 1); the denoiser's own states are `sigma_data` times as large.
    """
    schedule, spread = denoiser.schedule, denoiser.sigma_data
    t = schedule.time_at(-(level.cpu().double() * spread).log())
    alpha, _, sigma = (part.to(x) for part in schedule(t))
    x_hat = denoiser(alpha * spread * x + sigma * z, t.to(x)).float()
    return (x - x_hat / spread).square(), t.to(x)


def _windows(errors: Array, rows: int) -> Iterator[Array]:
    """The means (levels, C) over windows of errors (levels, C, n), where half of them is known."""
    for start in range(0, errors.shape[-1], rows):
        window = errors[..., start : start + rows]
        if 2 * window.shape[-1] < rows:
            return
        counts = (~np.isnan(window)).sum(axis=-1)
        enough = 2 * counts >= window.shape[-1]
        yield np.where(enough, np.nansum(window, axis=-1) / np.maximum(counts, 1), np.nan)


def state_channels(denoiser: NetworkDenoiser) -> int:
    """Channels that a denoiser takes at once."""
    return int(getattr(denoiser.backbone, "state_channels", 1))


#: Windows that are read back at once.
BLOCK = 1 << 12


class Spool:
    """Arrays of one shape in a temporary file, so that memory stays bounded; `spooled` makes one.

    Attributes:
        length: how many there are.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, ...], length: int) -> None:
        self._file, self._shape, self.length = file, shape, length

    def blocks(self, first: int | None = None) -> Iterator[Array]:
        """All arrays, or the first so many, (n, *shape) float64."""
        bytes_each = 8 * math.prod(self._shape)
        length = self.length if first is None else first
        for start in range(0, length, BLOCK):
            self._file.seek(start * bytes_each)
            held = self._file.read(min(BLOCK, length - start) * bytes_each)
            yield np.frombuffer(held).reshape(-1, *self._shape)

    def thinned(self, most: int, first: int | None = None) -> Array:
        """At most so many of all arrays, or of the first ones, evenly spread."""
        step = max(1, math.ceil((self.length if first is None else first) / most))
        blocks = enumerate(self.blocks(first))
        return np.concatenate([block[-n * BLOCK % step :: step] for n, block in blocks])


@contextmanager
def spooled(arrays: Iterable[Array], shape: tuple[int, ...]) -> Iterator[Spool]:
    """Arrays of a shape, written to a temporary file that is gone at the end."""
    with TemporaryFile() as file:
        length = 0
        for array in arrays:
            file.write(np.asarray(array, np.float64).tobytes())
            length += 1
        yield Spool(file, shape, length)
