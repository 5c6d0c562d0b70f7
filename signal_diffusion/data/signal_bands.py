"""The bands in which a recording has more power than its white noise, found from it alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import scipy.signal
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

#: Samples of a segment of the spectrum, in recordings that hold `SEGMENTS` of them.
LONGEST, SHORTEST, SEGMENTS = 4096, 64, 64
#: Standard deviations of an estimated power by which it must exceed that of the noise.
CLEARLY = 5.0
#: Bins that are looked at together, by which weak power over wide bands is found.
WIDTHS = (1, 9, 33, 129)
#: Bins that are kept on both sides of one with power: the window's lobe.
BESIDE = 2


def signal_bands(x: Array) -> Array:
    """Impulse response (n,), odd and symmetric, that passes the bands with a signal in them.

    A bin of Welch's spectrum of x (L,), whose white noise has a variance of 1, is passed where
    it, or the mean over some bins around it, exceeds the noise's by five standard deviations of
    such a mean. So weaker parts of a signal are lost: at L = 100,000 those that are some 10 dB
    below the noise over 3 % of the band.

    >>> rng = np.random.default_rng(0)
    >>> tone = np.sin(np.arange(100_000))
    >>> response = signal_bands(tone + rng.standard_normal(100_000))
    >>> passed = scipy.signal.oaconvolve(tone, response, mode="same")
    >>> bool(np.abs(passed - tone)[1000:-1000].max() < 1e-3), bool(np.sum(response**2) < 0.05)
    (True, True)
    """
    segment = _segment(len(x))
    _, power = scipy.signal.welch(x, nperseg=segment, fs=2.0, detrend=False)
    # Segments that overlap by half under a Hann window count as 1.89 that don't.
    count = 1.89 * len(x) / segment
    held = np.zeros(len(power), bool)
    for width in (w for w in WIDTHS if 2 * w < len(power)):
        # A strong line is no reason to take its neighbours for a wide band.
        rest = np.where(held, 0.0, power - 1)
        mean = np.convolve(rest, np.ones(width) / width, mode="same")
        # Neighbouring bins share half of what they tell.
        independent = count * (1 if width == 1 else width / 2)
        found = mean * np.sqrt(independent) > CLEARLY
        held |= np.convolve(found, np.ones(2 * BESIDE + 1), mode="same") > 0
    response = np.fft.fftshift(np.fft.irfft(held.astype(float)))
    return (response * np.hanning(segment + 1)[:-1])[1:].astype(np.float32)


def _segment(length: int) -> int:
    wanted = max(SHORTEST, min(LONGEST, length // SEGMENTS))
    return int(2 ** np.floor(np.log2(wanted)))


def within(x: Tensor, response: Tensor) -> Tensor:
    """Signals (B, 1, L) through odd symmetric responses (B, 1, n), with nothing around them."""
    length, odd = x.shape[-1], response.shape[-1]
    whole = scipy.fft.next_fast_len(length + odd - 1, real=True)
    spectrum = torch.fft.rfft(x, whole) * torch.fft.rfft(response, whole)
    return torch.fft.irfft(spectrum, whole)[..., odd // 2 : odd // 2 + length]
