"""Mel spectrograms: what a vocoder is given, and the magnitudes that they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from signal_diffusion.errors import InputError
from signal_diffusion.nn.phases import stft

#: Powers under this one are taken for it.
LEAST = 1e-10


#: `scale_of` of speech at a level of 0 dB (see `levels.level_db`), before it is taken off.
LOUD = 8.4


#: Of frames at that level, what a conditioner still tells.
FAINT = -12.0


@dataclass(frozen=True)
class Mel:
    """The logarithm of the power in mel bands, ln(max(power, 1e-10)), of frames of a waveform.

    Frames are centred, `hop` samples apart, and see zeros beyond the ends; L samples have
    1 + L // hop frames. Bands are Slaney's, of equal area, as in librosa.

    Args:
        sample_rate: Hz.
        window: samples of the Hann window and the transform.
        hop: samples between frames.
        bands: number of mel bands.
        low, high: edges in Hz; high None is half the rate.

    Raises:
        InputError: the edges are beyond the rate, or the hop beyond half the window.

    >>> import torch
    >>> Mel()(torch.zeros(1, 16000)).shape
    torch.Size([1, 80, 63])
    """

    sample_rate: int = 16000
    window: int = 1024
    hop: int = 256
    bands: int = 80
    low: float = 0.0
    high: float | None = None

    def __post_init__(self) -> None:
        half = self.sample_rate / 2
        if not 0 <= self.low < (half if self.high is None else self.high) <= half:
            raise InputError(f"mel bands go from {self.low} to {self.high} Hz: 0 to {half:g} fits")
        if not 1 <= self.hop <= self.window // 2:
            raise InputError(f"hop is {self.hop}; it goes from 1 to half the window, {self.window}")

    def __call__(self, x: Tensor) -> Tensor:
        """Waveforms (B, L) to log-mel frames (B, bands, N)."""
        spectrum = stft(x, window=self.window, hop=self.hop)
        return self.bands_of(spectrum.abs()).clamp_min(LEAST).log()

    def bands_of(self, magnitudes: Tensor) -> Tensor:
        """Spectral magnitudes (B, window // 2 + 1, N) to the power in mel bands (B, bands, N)."""
        return _filters(self).to(magnitudes) @ magnitudes.square()

    def magnitudes(self, log_mel: Tensor, *, refinements: int = 30) -> Tensor:
        """Spectral magnitudes (B, window // 2 + 1, N) that have these bands, 0 or more.

        The pseudo-inverse, then multiplicative updates of the squared error, which keep what is
        positive positive (Lee and Seung 2001, "Algorithms for non-negative matrix factorization").
        """
        mel, filters = log_mel.exp(), _filters(self).to(log_mel)
        power = (_inverse(self).to(log_mel) @ mel).clamp_min(LEAST)
        wanted = filters.T @ mel
        for _ in range(refinements):
            power = power * (wanted / (filters.T @ (filters @ power) + LEAST))
        return power.sqrt()

    @property
    def description(self) -> str:
        """The settings, in words."""
        high = self.sample_rate / 2 if self.high is None else self.high
        return (
            f"natural logarithms of the power in {self.bands} mel bands (Slaney) from {self.low:g} "
            f"to {high:g} Hz, {self.sample_rate} Hz, window {self.window}, hop {self.hop}"
        )


@cache
def _filters(mel: Mel) -> Tensor:
    """Weights (bands, window // 2 + 1) of the bins in the bands."""
    import librosa

    weights = librosa.filters.mel(
        sr=mel.sample_rate, n_fft=mel.window, n_mels=mel.bands, fmin=mel.low, fmax=mel.high
    )
    return torch.from_numpy(weights)


@cache
def _inverse(mel: Mel) -> Tensor:
    return torch.linalg.pinv(_filters(mel))


def scale_of(log_mel: Tensor) -> Tensor:
    """Loudness (B, 1, 1) of log-mel frames (B, bands, N), less that of a level of 0 dB.

    The 95th percentile over frames of the power in all bands, its logarithm, so that
    `scale_of(log_mel + c) == scale_of(log_mel) + c`.
    """
    loud = torch.quantile(torch.logsumexp(log_mel, dim=1), 0.95, dim=-1)
    return loud[:, None, None] - LOUD


def conditioner(levelled: Tensor) -> Tensor:
    """What a network is given of log-mel frames (B, bands, N) of a scale of about 0."""
    return levelled.clamp_min(FAINT) / 4


def padded(x: Tensor, mel: Mel) -> Tensor:
    """Waveforms (B, L) with zeros up to whole hops."""
    return F.pad(x, (0, -x.shape[-1] % mel.hop))


@dataclass(frozen=True)
class UnitMel:
    """Magnitudes m in mel bands as min(1, max(0, (20 log10(max(m, 1e-5)) + 80) / 100)).

    Frames are `hop` samples apart, of a Hann window of energy 1; bands are triangles of height 1 on
    the mel scale of HTK, from `low` to half the rate. As in the package `diffwave` 0.1.7.

    Args:
        sample_rate: Hz.
        bands: number of mel bands.
        window: samples of the window and the transform.
        hop: samples between frames.
        low: lower edge in Hz.

    >>> import torch
    >>> frames = UnitMel()(torch.zeros(1, 25600))
    >>> frames.shape, float(frames.max())
    (torch.Size([1, 80, 101]), 0.0)
    """

    sample_rate: int = 22050
    bands: int = 80
    window: int = 1024
    hop: int = 256
    low: float = 20.0

    def __call__(self, x: Tensor) -> Tensor:
        """Waveforms (B, L), mirrored at the ends, to frames (B, bands, 1 + L // hop)."""
        edge = self.window // 2
        return self.within(F.pad(x[:, None], (edge, edge), mode="reflect")[:, 0])

    def within(self, x: Tensor) -> Tensor:
        """Waveforms (B, L) to the frames (B, bands, 1 + (L - window) // hop) that lie in them."""
        window = torch.hann_window(self.window).to(x)
        spectrum = torch.stft(
            x, self.window, self.hop, window=window, center=False, return_complex=True
        )
        unit = math.sqrt(float(window.square().sum()))
        magnitude = _triangles(self).to(x) @ spectrum.abs() / unit
        return ((20 * magnitude.clamp_min(1e-5).log10() + 80) / 100).clamp(0, 1)


@cache
def _triangles(mel: UnitMel) -> Tensor:
    """Weights (bands, window // 2 + 1) of the bins in the bands."""
    import librosa

    weights = librosa.filters.mel(
        sr=mel.sample_rate, n_fft=mel.window, n_mels=mel.bands, fmin=mel.low, htk=True, norm=None
    )
    return torch.from_numpy(weights)
