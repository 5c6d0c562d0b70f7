"""Statistics of readings that a minority of faults hardly moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from signal_diffusion.dsp import Array

#: Spreads that a reading may lie off its channel's median; what lies further is as unusual.
FURTHEST = 20.0
#: Deviations of a normal variable from its 10th to its 90th percentile.
NORMAL_RANGE = 2.563


@dataclass(frozen=True)
class Scale:
    """Brings readings (C, n) to a median of 0 and a robust deviation of 1 in every channel.

    Attributes:
        middle, spread: of the channels (C, 1), in their units.

    >>> x = np.arange(5.0)[None] + 7
    >>> Scale.of(x)(x).tolist()
    [[-1.35, -0.67, 0.0, 0.67, 1.35]]
    """

    middle: Array
    spread: Array

    @staticmethod
    def of(readings: Array, missing: Array | None = None) -> Scale:
        """The scale of readings (C, n); channels that don't vary keep their units.

        The 10th and 90th percentile count where they tell of more than the absolute deviations do,
        as of readings that are rounded to a few values. Those that are missing (C, n), and were
        filled in, are left out in channels that have others.
        """
        left = np.ones(readings.shape, bool) if missing is None else ~missing
        rows = [
            row[chosen] if chosen.any() else row for row, chosen in zip(readings, left, strict=True)
        ]
        middle, near = np.transpose([median_and_deviation(row) for row in rows])
        low, high = np.transpose([np.quantile(row, [0.1, 0.9]) for row in rows])
        spread = np.maximum(near, (high - low) / NORMAL_RANGE)
        return Scale(middle[:, None], np.where(spread > 0, spread, 1.0)[:, None])

    def __call__(self, readings: Array) -> Array:
        """Readings (C, n) without units, float32, cut off at `FURTHEST`."""
        scaled = (readings - self.middle) / self.spread
        return np.clip(scaled, -FURTHEST, FURTHEST).astype(np.float32)


def median_and_deviation(values: Array) -> tuple[Array, Array]:
    """Median over the first axis, and the deviation by the median of absolute deviations.

    Of nothing at all, both are NaN.

    >>> middle, deviation = median_and_deviation(np.arange(101.0))
    >>> float(middle), float(deviation)
    (50.0, 37.065)
    """
    if not len(values):
        return (np.full(values.shape[1:], np.nan),) * 2
    middle = np.median(values, axis=0)
    return middle, 1.4826 * np.median(np.abs(values - middle), axis=0)
