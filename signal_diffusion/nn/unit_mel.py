"""The mel spectrograms that DiffWave is conditioned on: magnitudes in decibels, from 0 to 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


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
