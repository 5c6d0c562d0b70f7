"""Synthetic signals whose best denoiser is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data.batches import Batch, Recordings, Source, recordings_of


@dataclass(frozen=True)
class AutoRegressive:
    """Draws the stationary, circular Gaussian AR(2) process of a resonance, in white noise.

        x[n] = a_1 x[n-1] + a_2 x[n-2] + e[n],   a_1 = 2 r cos(w),  a_2 = -r^2

    drawn in the Fourier basis, where its bins are independent with the variances `spectrum`.

    Args:
        radius: r, of the poles.
        frequency: w / 2 pi, in cycles per sample.
        length: samples of a clip.
        std: standard deviation of the process.
    """

    radius: float = 0.95
    frequency: float = 0.1
    length: int = 512
    std: float = 0.5

    @property
    def spectrum(self) -> Tensor:
        """Variances (length // 2 + 1,) of the bins of the orthonormal Fourier transform."""
        w = 2 * torch.pi * torch.arange(self.length) / self.length
        pole = 2 * np.pi * self.frequency
        z = torch.exp(-1j * w)
        transfer = 1 - 2 * self.radius * np.cos(pole) * z + self.radius**2 * z**2
        power = transfer.abs().double() ** -2
        return (self.std**2 * power / power.mean())[: self.length // 2 + 1]

    def wiener_db(self, snr_db: float) -> float:
        """Signal-to-error ratio of the Wiener filter in white noise at an input SNR, in dB."""
        power = torch.cat([self.spectrum, self.spectrum[1 : (self.length + 1) // 2]])
        noise = self.std**2 * 10 ** (-snr_db / 10)
        error = (power * noise / (power + noise)).mean()
        return float(10 * torch.log10(self.std**2 / error))

    def __call__(self, rng: np.random.Generator, size: int) -> Batch:
        white = torch.from_numpy(rng.standard_normal((size, 1, self.length)))
        shaped = torch.fft.rfft(white, norm="ortho") * self.spectrum.sqrt()
        clean = torch.fft.irfft(shaped, self.length, norm="ortho").float()
        noise = torch.from_numpy(rng.standard_normal(clean.shape)).float() * self.std
        return Batch(clean, clean + noise, ["AR(2)"] * size)


@dataclass(frozen=True)
class AutoRegressiveSources:
    """Batches of one AR(2) process for training and validation, and `recordings` clips at 0 dB."""

    process: AutoRegressive
    recordings: int = 16

    def __call__(self) -> tuple[Source, Source, Recordings]:
        return self.process, self.process, recordings_of(self.process, self.recordings)
