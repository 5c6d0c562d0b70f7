"""Classical filters that the models are measured beside, on signals (..., L)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import scipy.signal

from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError, install

#: Hz: what a monitor shows of an electrocardiogram.
ECG_BAND = (0.67, 40.0)


def iir_bandpass(noisy: Array, rate: float, *, band: tuple[float, float] = ECG_BAND) -> Array:
    """Butterworth band-pass, fourth order, zero phase; rate and band in Hz.

    >>> time = np.arange(3600) / 360
    >>> kept = iir_bandpass(1 + np.sin(2 * np.pi * 10 * time), 360)
    >>> float(np.abs(kept - np.sin(2 * np.pi * 10 * time))[1000:2600].max()) < 0.01
    True
    """
    sections = scipy.signal.butter(4, band, "bandpass", fs=rate, output="sos")
    return np.array(scipy.signal.sosfiltfilt(sections, noisy))


def fir_bandpass(noisy: Array, rate: int, *, band: tuple[float, float] = ECG_BAND) -> Array:
    """Hamming-window band-pass of 4 s, zero phase; rate and band in Hz."""
    taps = scipy.signal.firwin(4 * rate + 1, band, pass_zero=False, fs=rate)
    ends = [(0, 0)] * (noisy.ndim - 1) + [(2 * rate, 2 * rate)]
    taps = taps.reshape((1,) * (noisy.ndim - 1) + (-1,))
    padded = np.pad(noisy, ends, mode="reflect")
    return np.asarray(scipy.signal.fftconvolve(padded, taps, mode="valid", axes=-1))


def soft_thresholds(noisy: Array) -> Array:
    """Soft thresholds on Symlet coefficients, with the noise of the finest (Donoho 1994).

    Six levels, or as many as the length allows. Raises InputError without the package PyWavelets.
    """
    pywt = _wavelets()
    levels = min(6, pywt.dwt_max_level(noisy.shape[-1], "sym8"))
    coarse, *fine = pywt.wavedec(noisy, "sym8", level=levels)
    sigma = np.median(np.abs(fine[-1]), axis=-1, keepdims=True) / 0.6745
    threshold = sigma * np.sqrt(2 * np.log(noisy.shape[-1]))
    kept = [np.sign(c) * np.maximum(np.abs(c) - threshold, 0) for c in fine]
    return np.asarray(pywt.waverec([coarse, *kept], "sym8")[..., : noisy.shape[-1]])


def _wavelets() -> Any:
    try:
        return import_module("pywt")
    except ImportError as error:
        raise InputError(f"wavelets need the package PyWavelets: {install('evaluate')}") from error
