"""The training loss of speech: errors of spectra and waveform, and how they sound.

As in `losses`: `loss(prediction) -> {name: term}`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from signal_diffusion.dsp.levels import level_db
from signal_diffusion.training.losses import Prediction

if TYPE_CHECKING:
    from signal_diffusion.nn.frames import CompressedSTFT

#: Least level in dB of a noisy clip that its loss is normalised by.
LEAST_DB = -60.0


class SpeechLoss(nn.Module):
    """Errors of compressed spectra and of the waveform, and terms like PESQ and ESTOI.

    Clips are brought to a level at which the loud frames of the noisy one have a mean square of 1,
    so that quiet clips count as much as loud ones. With X and E the bins of the spectra of the
    clean waveform S and of the estimated one, and e the error of the latter:

        magnitude:        mean (|E|^0.3 - |X|^0.3)^2, more where E is less than X
        spectrum:         mean |E |E|^-0.7 - X |X|^-0.7|^2
        waveform:         mean over clips of log10((|e|^2 + floor) / (|S|^2 + floor))
        disturbance:      see `Disturbance`
        intelligibility:  see `Intelligibility`

    Args:
        magnitude, spectrum, waveform, disturbance, intelligibility: weights of the terms.
        removed: further weight of a magnitude's error where the estimate has too little of a voice.
        power: exponent of the magnitudes.
        floor: mean square of a waveform under which neither error nor signal counts.
        sample_rate: of the waveforms, in Hz.
        window: samples of the codec's window.

    Source: Braun and Tashev 2020 (arXiv:2009.12286); Ahn and others 2025 (arXiv:2509.21867) for
    the mix of terms; Martín-Doñas and others 2018 for disturbances as a loss.
    """

    def __init__(
        self,
        *,
        magnitude: float = 4.0,
        spectrum: float = 0.5,
        waveform: float = 0.2,
        disturbance: float = 0.07,
        intelligibility: float = 0.08,
        removed: float = 0.5,
        power: float = 0.3,
        floor: float = 3e-4,
        sample_rate: int = 16000,
        window: int = 512,
    ) -> None:
        super().__init__()
        self.weights = dict(
            magnitude=magnitude,
            spectrum=spectrum,
            waveform=waveform,
            disturbance=disturbance,
            intelligibility=intelligibility,
        )
        self.removed, self.power, self.floor = removed, power, floor
        self.disturbance = Disturbance(sample_rate=sample_rate, window=window)
        self.intelligibility = Intelligibility(sample_rate=sample_rate, window=window)

    def forward(self, prediction: Prediction) -> dict[str, Tensor]:
        codec = cast("CompressedSTFT", prediction.denoiser.codec)
        signal = prediction.signal
        level = level_db(signal if prediction.noisy is None else prediction.noisy)
        gain = 10 ** (-level.clamp_min(LEAST_DB) / 20)
        estimate, signal = gain * prediction.waveform, gain * signal
        made, wanted = (codec.encode(v).unflatten(1, (2, -1)) for v in (estimate, signal))
        bins = [power_of(codec, v) for v in (made, wanted)]
        # |X|^0.3, and what turns a state into X |X|^-0.7; far below any sound, both are smooth.
        sizes = [(u + 1e-5) ** (self.power / 2) for u in bins]
        spectra = [
            v * (size / (v.square().sum(dim=1) + 1e-6).sqrt())[:, None]
            for v, size in zip((made, wanted), sizes, strict=True)
        ]
        error = sizes[0] - sizes[1]
        error = error.square() + self.removed * error.clamp_max(0).square()
        noise = (estimate - signal).square().mean(dim=(1, 2)) + self.floor
        terms = {
            "magnitude": error.mean(),
            "spectrum": (spectra[0] - spectra[1]).square().sum(dim=1).mean(),
            "waveform": (noise / (signal.square().mean(dim=(1, 2)) + self.floor)).log10().mean(),
            "disturbance": self.disturbance(*bins).mean(),
            "intelligibility": self.intelligibility(*bins).mean(),
        }
        return {name: self.weights[name] * term for name, term in terms.items()}


class Disturbance(nn.Module):
    """The audible part of an estimate's error, in the units of PESQ.

    Powers of 32 ms frames become loudnesses in bands of half a Bark, above a threshold of hearing
    at a level of 79 dB; differences below a quarter of the lesser loudness are masked; what an
    estimate has too much counts again. Frames are pooled by the sixth power over 320 ms, since what
    stands out is what is noticed. PESQ's alignment in time and its equalisers are left out.

    Args:
        sample_rate: of the waveforms, in Hz.
        window: samples of the frames.

    Source: ITU-T P.862 for the model; Terhardt 1979 for the threshold of hearing.
    """

    bands: Tensor
    threshold: Tensor

    def __init__(self, *, sample_rate: int = 16000, window: int = 512) -> None:
        super().__init__()
        frequency = np.fft.rfftfreq(window, 1 / sample_rate)
        bark = 7 * np.arcsinh(frequency / 650)
        place = np.unique(np.floor(2 * bark), return_inverse=True)[1]
        bands = np.equal.outer(np.arange(place.max() + 1), place)[1:].astype(np.float32)
        khz = (bands * frequency).sum(axis=1) / bands.sum(axis=1) / 1000
        quiet = 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
        self.register_buffer("bands", torch.from_numpy(bands), persistent=False)
        threshold = torch.from_numpy(10 ** (quiet / 10)).float()[:, None]
        self.register_buffer("threshold", threshold, persistent=False)
        # Bins of 350 to 3250 Hz, by which levels are measured.
        self.middle = slice(round(350 * window / sample_rate), round(3250 * window / sample_rate))
        # Mean power of those bins at 79 dB, in the units of the threshold.
        self.level = 13269.0 * window / 2 / (self.middle.stop - self.middle.start)

    def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
        """Powers (B, bins, N) of two signals to the disturbance of the first (B,)."""
        level = clean[:, self.middle].mean(dim=(1, 2), keepdim=True)
        gain = self.level / (level + 1e-7)
        made, wanted = (self.bands @ (gain * v) for v in (estimate, clean))
        loud, louder = self._loudness(wanted), self._loudness(made)
        audible = (louder - loud).abs() - 0.25 * torch.minimum(loud, louder)
        audible = audible.clamp_min(0)
        more = ((made + 50) / (wanted + 50)).clamp_max(10) ** 1.2
        more = torch.where(more < 3, 0.0, more.clamp_max(12))
        power = (wanted * (wanted > self.threshold)).sum(dim=1)
        weight = ((power + 1e5) / 1e7) ** -0.04
        both = (audible.square().mean(dim=1) + 1e-6).sqrt() * 17.3
        added = (audible * more).mean(dim=1) * 24.5
        frames = [(weight * v).clamp_max(45) for v in (both, added)]
        return 0.1 * _pooled(frames[0]) + 0.0309 * _pooled(frames[1])

    def _loudness(self, power: Tensor) -> Tensor:
        """Loudness by Zwicker's law, of powers (B, bands, N)."""
        ratio = (0.5 + 0.5 * power / self.threshold) ** 0.23 - 1
        return 0.1866 * (self.threshold / 0.5) ** 0.23 * ratio.clamp_min(0)


class Intelligibility(nn.Module):
    """1 minus the correlation of the envelopes of an estimate and of clean speech, as in ESTOI.

    Magnitudes in third-octave bands from 150 Hz up are taken in segments of 24 frames (0.4 s). In
    each, every band and then every frame is centred and normalised; the correlation is the mean
    product of both signals. Segments 40 dB below the loudest and clips without speech don't count.
    ESTOI resamples to 10 kHz and has frames of 26 ms; here the spectra are taken as they are.

    Args:
        sample_rate: of the waveforms, in Hz.
        window: samples of the frames.

    Source: Jensen and Taal 2016 for the measure.
    """

    bands: Tensor

    #: Frames of a segment, and between two.
    SEGMENT, STEP = 24, 6

    def __init__(self, *, sample_rate: int = 16000, window: int = 512) -> None:
        super().__init__()
        frequency = np.fft.rfftfreq(window, 1 / sample_rate)
        edges = 150 * 2 ** ((np.arange(16) - 0.5) / 3)
        place = np.searchsorted(edges, frequency, side="right")[None]
        bands = (place == np.arange(1, 16)[:, None]).astype(np.float32)
        self.register_buffer("bands", torch.from_numpy(bands), persistent=False)

    def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
        """Powers (B, bins, N) of two signals to 1 minus their correlation (B,)."""
        if clean.shape[-1] < self.SEGMENT:
            return estimate.new_zeros(len(estimate))
        made, wanted = (
            ((self.bands @ v) + 1e-6).sqrt().unfold(-1, self.SEGMENT, self.STEP)
            for v in (estimate, clean)
        )
        energy = wanted.square().mean(dim=(1, 3)) - 1e-6
        counts = (energy > 1e-4 * energy.amax(dim=-1, keepdim=True)) & (energy > 1e-5)
        correlation = (_centred(made) * _centred(wanted)).sum(dim=(1, 3)) / self.SEGMENT
        return ((1 - correlation) * counts).sum(dim=-1) / counts.sum(dim=-1).clamp_min(1)


def _centred(x: Tensor) -> Tensor:
    """Segments (B, bands, S, frames), centred and normalised over frames, then over bands."""
    for dim in (-1, 1):
        x = x - x.mean(dim=dim, keepdim=True)
        x = x / (x.square().sum(dim=dim, keepdim=True) + 1e-8).sqrt()
    return x


def power_of(codec: CompressedSTFT, parts: Tensor) -> Tensor:
    """Squared magnitudes (B, bins, N) of the plain spectrum, of a state's parts (B, 2, bins, N)."""
    energy = parts.square().sum(dim=1)
    return energy * codec._expansion(energy).square()


def _pooled(frames: Tensor, *, size: int = 20) -> Tensor:
    """Disturbances of frames (B, N) to those of clips (B,)."""
    size = min(size, frames.shape[-1])
    parts = frames.unfold(-1, size, max(1, size // 2))
    # Scaled first, since sixth powers of single precision have a narrow range.
    most = parts.detach().amax(dim=-1, keepdim=True) + 1e-3
    parts = most[..., 0] * ((parts / most) ** 6).mean(dim=-1).clamp_min(1e-12) ** (1 / 6)
    return (parts.square().mean(dim=-1) + math.ulp(1.0)).sqrt()
