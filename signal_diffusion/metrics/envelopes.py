"""Whether a denoised vibration still shows a fault: the kurtosis, and the envelope's spectrum."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.errors import InputError
from signal_diffusion.metrics.closeness import Signal, pair_of

#: Hz: slower changes of the envelope are drifts, and no blows of a fault.
SLOWEST = 5.0
#: Share of a frequency within which its peak is looked for.
NEAR = 0.02


def kurtosis_error(estimate: Signal, reference: Signal) -> Tensor:
    """Error of the kurtosis in % of the reference's: 100 |k(estimate) / k(reference) - 1|.

    k = E[(x - m)^4] / E[(x - m)^2]^2, which is 3 for normal noise, 1.5 for a sine and more for
    blows. estimate, reference: (L,) or (B, L). Raises InputError where their shapes differ. Lower
    is better.

    >>> sine = torch.sin(torch.arange(1000) * 2 * torch.pi / 100)
    >>> round(float(kurtosis_error(torch.tensor([1.0, -1.0] * 500), sine)), 3)   # 1 instead of 1.5
    33.333
    """
    estimate, reference = pair_of(estimate, reference)
    return 100 * (_kurtosis(estimate) / _kurtosis(reference) - 1).abs()


def envelope_peak_error(
    estimate: Signal, reference: Signal, *, sample_rate: float, frequency: float | None = None
) -> Tensor:
    """Error in % of the amplitude with which a fault's blows stand in the envelope's spectrum.

    estimate, reference: (L,) or (B, L) at `sample_rate` Hz. `frequency` is that of the fault in Hz;
    None takes that of the highest peak of the reference above `SLOWEST`. Raises InputError where
    the shapes differ, or the signals are too short to tell frequencies. Lower is better.

    Randall and Antoni (2011), "Rolling element bearing diagnostics - a tutorial", MSSP 25(2).
    """
    estimate, reference = pair_of(estimate, reference)
    rows = zip(torch.atleast_2d(estimate), torch.atleast_2d(reference), strict=True)
    errors = [_peak_error(e.numpy(), r.numpy(), sample_rate, frequency) for e, r in rows]
    return torch.tensor(errors, dtype=torch.float64).reshape(reference.shape[:-1])


def envelope_peak(x: np.ndarray, *, sample_rate: float, frequency: float) -> float:
    """The largest amplitude in the spectrum of the envelope of (L,) within 2 % of a frequency, Hz.

    >>> time = np.arange(12000) / 12000
    >>> blows = (1 + 0.5 * np.cos(2 * np.pi * 160 * time)) * np.sin(2 * np.pi * 3000 * time)
    >>> one, other = (envelope_peak(blows, sample_rate=12000, frequency=f) for f in (160, 250))
    >>> one > 1000 * other
    True
    """
    frequencies, spectrum = _envelope_spectrum(x, sample_rate)
    width = max(NEAR * frequency, sample_rate / len(x))
    near = np.abs(frequencies - frequency) <= width
    return float(spectrum[near].max()) if near.any() else 0.0


def _peak_error(
    estimate: np.ndarray, reference: np.ndarray, sample_rate: float, frequency: float | None
) -> float:
    if frequency is None:
        frequencies, spectrum = _envelope_spectrum(reference, sample_rate)
        above = frequencies >= SLOWEST
        if not above[:-1].any():
            raise InputError(
                f"{len(reference)} samples at {sample_rate:g} Hz show no peak: take more"
            )
        frequency = float(frequencies[above][spectrum[above].argmax()])
    peak, true = (
        envelope_peak(x, sample_rate=sample_rate, frequency=frequency)
        for x in (estimate, reference)
    )
    return 100 * abs(peak / true - 1) if true else float("nan")


def _envelope_spectrum(x: np.ndarray, sample_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz and amplitudes of the envelope of (L,), without its mean."""
    # Here, since it takes long to load.
    from scipy.signal import hilbert

    envelope = np.abs(hilbert(x))
    spectrum = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(x)))) / len(x)
    return np.fft.rfftfreq(len(x), 1 / sample_rate), spectrum


def _kurtosis(x: Tensor) -> Tensor:
    squares = (x - x.mean(-1, keepdim=True)).square()
    return squares.square().mean(-1) / squares.mean(-1).square()
