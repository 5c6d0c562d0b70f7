"""Classical filters of electrocardiograms beside those of `signal_diffusion.evaluation`."""

from __future__ import annotations

import numpy as np
import scipy.signal

from signal_diffusion.dsp import Array
from signal_diffusion.evaluation.baselines import ECG_BAND


def fir_bandpass(noisy: Array, rate: int, *, band: tuple[float, float] = ECG_BAND) -> Array:
    """Hamming-window band-pass of 4 s, zero phase; rate and band in Hz."""
    taps = scipy.signal.firwin(4 * rate + 1, band, pass_zero=False, fs=rate)
    ends = [(0, 0)] * (noisy.ndim - 1) + [(2 * rate, 2 * rate)]
    taps = taps.reshape((1,) * (noisy.ndim - 1) + (-1,))
    padded = np.pad(noisy, ends, mode="reflect")
    return np.asarray(scipy.signal.fftconvolve(padded, taps, mode="valid", axes=-1))
