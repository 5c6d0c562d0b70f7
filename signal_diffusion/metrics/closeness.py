"""How close an estimate is to its reference: SI-SDR, SNR, PRD, log-spectral distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.errors import InputError

Signal = Tensor | np.ndarray


def snr(estimate: Signal, reference: Signal) -> Tensor:
    """Signal-to-noise ratio in dB: 10 log10(|reference|^2 / |estimate - reference|^2).

    estimate, reference: (L,) or (B, L). Raises InputError where their shapes differ.

    >>> reference = torch.tensor([3.0, 4.0, 0.0])
    >>> snr(reference + torch.tensor([0.0, 0.0, 0.5]), reference)
    tensor(20., dtype=torch.float64)
    """
    estimate, reference = pair_of(estimate, reference)
    return _decibels(_energy(reference), _energy(estimate - reference))


def si_sdr(estimate: Signal, reference: Signal) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, means removed.

    10 log10(|a s|^2 / |a s - e|^2), a = <e, s> / |s|^2, e and s without their means.
    estimate, reference: (L,) or (B, L). Raises InputError where their shapes differ; nan where
    either is constant, for then there is no angle between them.

    Le Roux, Wisdom, Erdogan, Hershey (2019), "SDR - half-baked or well done?", arXiv:1811.02508.

    >>> reference = torch.tensor([1.0, -1.0, 1.0, -1.0])
    >>> noise = torch.tensor([0.1, 0.1, -0.1, -0.1])
    >>> si_sdr(7 * (reference + noise) + 3, reference)
    tensor(20.0, dtype=torch.float64)
    """
    estimate, reference = (_centred(x) for x in pair_of(estimate, reference))
    scale = (estimate * reference).sum(-1) / _energy(reference)
    target = scale[..., None] * reference
    return _decibels(_energy(target), _energy(estimate - target))


def prd(estimate: Signal, reference: Signal) -> Tensor:
    """Percentage root-mean-square difference, 100 |estimate - reference| / |reference - mean|.

    estimate, reference: (L,) or (B, L). Raises InputError where their shapes differ. Lower is
    better.

    >>> reference = torch.tensor([1.0, -1.0, 1.0, -1.0])
    >>> prd(reference + 0.1, reference)
    tensor(10.0000, dtype=torch.float64)
    """
    estimate, reference = pair_of(estimate, reference)
    return 100 * (_energy(estimate - reference) / _energy(_centred(reference))).sqrt()


def cosine_similarity(estimate: Signal, reference: Signal) -> Tensor:
    """Cosine of the angle between two signals: 1 is the same shape.

    estimate, reference: (L,) or (B, L). Raises InputError where their shapes differ.

    >>> cosine_similarity(torch.tensor([1.0, 1.0]), torch.tensor([3.0, 3.0]))
    tensor(1., dtype=torch.float64)
    """
    estimate, reference = pair_of(estimate, reference)
    product = (estimate * reference).sum(-1)
    return product / (_energy(estimate) * _energy(reference)).sqrt()


def ssd(estimate: Signal, reference: Signal) -> Tensor:
    """Sum of squared differences, in the signals' units squared. Lower is better.

    >>> ssd(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    tensor(5., dtype=torch.float64)
    """
    estimate, reference = pair_of(estimate, reference)
    return _energy(estimate - reference)


def mad(estimate: Signal, reference: Signal) -> Tensor:
    """Largest absolute difference, in the signals' units. Lower is better.

    >>> mad(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    tensor(2., dtype=torch.float64)
    """
    estimate, reference = pair_of(estimate, reference)
    return (estimate - reference).abs().amax(-1)


def log_spectral_distance(
    estimate: Signal,
    reference: Signal,
    *,
    window: int = 512,
    hop: int = 256,
    floor_db: float = 80.0,
) -> Tensor:
    """Distance of two log power spectrograms in dB; 0 is equal, lower is better.

    Mean over frames of sqrt(mean over bins of (10 log10 |E|^2 - 10 log10 |S|^2)^2), both powers
    held at least `floor_db` below the largest of the reference, so that silence counts as silence.
    estimate, reference: (L,) or (B, L); window, hop: samples.
    Raises InputError where the shapes differ or a recording is shorter than one window.

    Gray and Markel (1976), "Distance measures for speech processing", IEEE TASSP 24(5).

    >>> reference = torch.sin(torch.arange(2048) * 0.3)
    >>> log_spectral_distance(reference, reference)
    tensor(0., dtype=torch.float64)
    """
    estimate, reference = pair_of(estimate, reference)
    if reference.shape[-1] < window:
        raise InputError(
            f"reference has {reference.shape[-1]} samples but window is {window}; "
            "pass a longer recording or a smaller window"
        )
    spectra = [_power_spectrogram(x, window, hop) for x in (estimate, reference)]
    floor = spectra[1].amax((-2, -1), keepdim=True) * 10 ** (-floor_db / 10)
    levels = [10 * torch.log10(s.maximum(floor.clamp_min(1e-300))) for s in spectra]
    return (levels[0] - levels[1]).square().mean(-2).sqrt().mean(-1)


def multi_resolution_error(
    estimate: Signal, reference: Signal, *, windows: Sequence[int] = (512, 1024, 2048)
) -> Tensor:
    """Error of STFT magnitudes at several resolutions; 0 is equal, lower is better.

    The mean over Hann windows, a quarter of each apart, of |E - S| / |S| (Frobenius norms of the
    magnitudes) + mean |ln E - ln S|, magnitudes held 80 dB below the reference's largest.
    estimate, reference: (L,) or (B, L). Raises InputError where the shapes differ or a recording is
    shorter than the longest window.

    Yamamoto, Song and Kim (2020), "Parallel WaveGAN", arXiv:1910.11480, in which it is the loss.

    >>> reference = torch.sin(torch.arange(4096) * 0.3)
    >>> multi_resolution_error(reference, reference)
    tensor(0., dtype=torch.float64)
    """
    estimate, reference = pair_of(estimate, reference)
    if reference.shape[-1] < max(windows):
        raise InputError(
            f"reference has {reference.shape[-1]} samples but the longest window {max(windows)}; "
            "pass a longer recording or shorter windows"
        )
    errors = [_magnitude_errors(estimate, reference, window) for window in windows]
    return torch.stack(errors).mean(0)


def _magnitude_errors(estimate: Tensor, reference: Tensor, window: int) -> Tensor:
    first, second = (
        _power_spectrogram(x, window, window // 4).sqrt() for x in (estimate, reference)
    )
    least = 1e-4 * second.amax((-2, -1), keepdim=True).clamp_min(1e-300)
    logarithms = first.maximum(least).log() - second.maximum(least).log()
    distance = (first - second).square().sum((-2, -1)).sqrt()
    norm = second.square().sum((-2, -1)).sqrt().clamp_min(1e-300)
    return distance / norm + logarithms.abs().mean((-2, -1))


def pair_of(estimate: Signal, reference: Signal) -> tuple[Tensor, Tensor]:
    """Both as float64 tensors (L,) or (B, L); raises InputError where their shapes differ."""
    # On the CPU, since not every device has float64.
    pair = torch.as_tensor(estimate).cpu().double(), torch.as_tensor(reference).cpu().double()
    if pair[0].shape != pair[1].shape:
        raise InputError(
            f"estimate has shape {tuple(pair[0].shape)} but reference {tuple(pair[1].shape)}; "
            "cut both to the same samples"
        )
    if pair[0].ndim not in (1, 2) or pair[0].shape[-1] == 0:
        raise InputError(f"estimate has shape {tuple(pair[0].shape)}; pass (L,) or (B, L), L > 0")
    return pair


def _energy(x: Tensor) -> Tensor:
    return x.square().sum(-1)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _decibels(signal: Tensor, noise: Tensor) -> Tensor:
    return 10 * torch.log10(signal / noise)


def _power_spectrogram(x: Tensor, window: int, hop: int) -> Tensor:
    taper = torch.hann_window(window, dtype=x.dtype, device=x.device)
    stft = torch.stft(x, window, hop, window=taper, center=False, return_complex=True)
    return stft.abs().square()
