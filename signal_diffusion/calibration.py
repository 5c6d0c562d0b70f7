"""Bands around the mean of several draws of a clean recording, as drawn or calibrated."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError

#: Share of the truth that a band is meant to hold, and half of it in deviations of a normal law.
SHARE, NORMAL = 0.9, 1.6448536269514722
#: What `calibrated` tries: floors over the root mean square of the draws' deviation, and weights.
FLOORS, WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5), (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Bands:
    """How far the truth lies from the mean of M draws, which differ less than they should.

        low, high = mean -+ width t sqrt(1 + 1/M) d,
        d^2 = ((M - 1) s^2 + weight floor^2) / (M - 1 + weight)

    with s the draws' deviation at one sample and t the 95 % quantile of Student's t with
    M - 1 + weight degrees of freedom: the predictive band of a normal law whose variance is known
    to be about floor^2, as surely as from `weight` draws more (Gelman and others 2013, "Bayesian
    Data Analysis", 3.3), times a width that is measured. Exact draws have a width of 1. All goes by
    the draws at one sample, so that it is the same however a recording is cut.

    Args:
        width: factor on the band.
        floor: deviation that is expected beforehand, at the denoiser's level.
        weight: of that, in draws; 0 for none.
        steps: times of the grid that the draws were made with; others get no calibrated band.
        data: words for what the calibration was made on.

    Raises:
        InputError: a number is not finite, or not in its range.

    >>> [round(reach, 2) for reach in map(Bands(width=1.0).reach, (2, 8, 1000))]
    [7.73, 2.01, 1.65]
    """

    width: float
    floor: float = 0.0
    weight: float = 0.0
    steps: int = 16
    data: str = ""

    def __post_init__(self) -> None:
        for name, least in (("width", 0), ("floor", 0), ("weight", 0), ("steps", 1)):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and least <= value < math.inf):
                raise InputError(f"{name} of the bands is {value!r}; it must be {least} or more")

    def reach(self, shots: int) -> float:
        """Half the band of so many draws, in units of d."""
        from scipy.special import stdtrit

        t = float(stdtrit(shots - 1 + self.weight, (1 + SHARE) / 2))
        return self.width * t * math.sqrt(1 + 1 / shots)

    def around(self, draws: Array, scale: Array | float = 1.0) -> tuple[Array, Array, Array, Array]:
        """Mean, deviation, lower and upper end (C, L) of draws (C, shots, L), of 2 shots or more.

        The deviation is that of a normal law with the same band. Where all draws are one, as in
        digital silence, the band is closed.

        Args:
            scale: of the draws' units over the denoiser's, (C, 1) or a number.
        """
        mean, others = draws.mean(axis=1), draws.shape[1] - 1
        expected = self.weight * (self.floor * np.asarray(scale)) ** 2
        variance = others * draws.var(axis=1, ddof=1, dtype=np.float64) + expected
        variance = variance * (np.ptp(draws, axis=1) > 0) / (others + self.weight)
        half = (self.reach(draws.shape[1]) * np.sqrt(variance)).astype(draws.dtype)
        return mean, half / NORMAL, mean - half, mean + half


def spread(
    draws: Array, bands: Bands | None = None, scale: Array | float = 1.0
) -> tuple[Array, Array, Array, Array]:
    """Mean, deviation, lower and upper end of the 90 % band (C, L) of draws (C, shots, L).

    Without `bands` these are the standard deviation and the 5 % and 95 % quantiles of the draws as
    they are: 8 exact draws then hold 72 % of the truth, and those of a network less.

    Args:
        scale: see `Bands.around`.
    """
    if bands is not None:
        return bands.around(draws, scale)
    low, high = np.quantile(draws, [(1 - SHARE) / 2, (1 + SHARE) / 2], axis=1)
    return draws.mean(axis=1), draws.std(axis=1, ddof=1), low, high


def calibrated(draws: Array, truth: Array, *, steps: int = 16, data: str = "") -> Bands:
    """The bands that hold 90 % of some truth (L,) around the mean of all its draws (shots, L).

    Of the floors and weights that are tried, those with the least mean interval score for 2, 4, 8
    and so on of the draws: the band's width and, over 5 %, how far the truth lies outside (Gneiting
    and Raftery 2007, JASA 102(477), 6.2).

    Args:
        draws, truth: at the denoiser's level, of records that did not train it.
        steps, data: see `Bands`.

    Raises:
        InputError: the shapes don't fit, or all draws are one.

    >>> rng = np.random.default_rng(0)
    >>> truth, sure = rng.normal(size=40000), 0.5 * rng.normal(size=(8, 40000))
    >>> _, _, low, high = calibrated(sure, truth).around(sure[None])
    >>> round(float(np.mean((low[0] <= truth) & (truth <= high[0]))), 3)
    0.9
    """
    if draws.ndim != 2 or len(draws) < 2 or draws.shape[1:] != truth.shape or not truth.size:
        raise InputError(
            f"draws have shape {draws.shape} but truth {truth.shape}; pass (shots, L) and (L,)"
        )
    deviation = math.sqrt(float(np.mean(draws.var(axis=0, ddof=1))))
    if deviation == 0:
        raise InputError("all draws are one: draw them with more than one step")
    tried = (
        Bands(width=1.0, floor=share * deviation, weight=weight, steps=steps, data=data)
        for share in FLOORS
        for weight in WEIGHTS
    )
    fitted = [_widened(bands, draws, truth) for bands in tried]
    return min(fitted, key=lambda bands: _interval_score(bands, draws, truth))


def _widened(bands: Bands, draws: Array, truth: Array) -> Bands:
    mean, _, _, high = bands.around(draws[None])
    errors = np.abs(truth - mean) / np.maximum(high - mean, np.finfo(np.float64).tiny)
    return replace(bands, width=float(np.quantile(errors, SHARE)))


def _interval_score(bands: Bands, draws: Array, truth: Array) -> float:
    counts = [2**n for n in range(1, len(draws).bit_length())]
    return float(np.mean([_interval(bands, draws[:count], truth) for count in counts]))


def _interval(bands: Bands, draws: Array, truth: Array) -> float:
    low, high = bands.around(draws[None])[2:]
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return float(np.mean(high - low + 2 / (1 - SHARE) * outside))
