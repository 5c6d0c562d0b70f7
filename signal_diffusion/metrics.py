"""How close an estimate is to its reference: SI-SDR, SNR, log-spectral distance, PESQ, ESTOI.

Every metric takes `estimate` and `reference` as tensors or arrays of shape (L,) or (B, L) and
returns a float64 tensor of shape () or (B,). Higher is better, but for the log-spectral distance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

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
    estimate, reference = _pair(estimate, reference)
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
    estimate, reference = (_centred(x) for x in _pair(estimate, reference))
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
    estimate, reference = _pair(estimate, reference)
    return 100 * (_energy(estimate - reference) / _energy(_centred(reference))).sqrt()


def cosine_similarity(estimate: Signal, reference: Signal) -> Tensor:
    """Cosine of the angle between two signals: 1 is the same shape.

    estimate, reference: (L,) or (B, L). Raises InputError where their shapes differ.

    >>> cosine_similarity(torch.tensor([1.0, 1.0]), torch.tensor([3.0, 3.0]))
    tensor(1., dtype=torch.float64)
    """
    estimate, reference = _pair(estimate, reference)
    product = (estimate * reference).sum(-1)
    return product / (_energy(estimate) * _energy(reference)).sqrt()


def ssd(estimate: Signal, reference: Signal) -> Tensor:
    """Sum of squared differences, in the signals' units squared. Lower is better.

    >>> ssd(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    tensor(5., dtype=torch.float64)
    """
    estimate, reference = _pair(estimate, reference)
    return _energy(estimate - reference)


def mad(estimate: Signal, reference: Signal) -> Tensor:
    """Largest absolute difference, in the signals' units. Lower is better.

    >>> mad(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    tensor(2., dtype=torch.float64)
    """
    estimate, reference = _pair(estimate, reference)
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
    estimate, reference = _pair(estimate, reference)
    if reference.shape[-1] < window:
        raise InputError(
            f"reference has {reference.shape[-1]} samples but window is {window}; "
            "pass a longer recording or a smaller window"
        )
    spectra = [_power_spectrogram(x, window, hop) for x in (estimate, reference)]
    floor = spectra[1].amax((-2, -1), keepdim=True) * 10 ** (-floor_db / 10)
    levels = [10 * torch.log10(s.maximum(floor.clamp_min(1e-300))) for s in spectra]
    return (levels[0] - levels[1]).square().mean(-2).sqrt().mean(-1)


def pesq_wb(estimate: Signal, reference: Signal, *, sample_rate: int = 16000) -> Tensor:
    """Wide-band PESQ, a listening score from about 1 (bad) to 4.64 (no difference).

    estimate, reference: (L,) or (B, L) at 16 kHz. Needs the package `pesq`.
    Raises InputError for another rate, for recordings without speech, or without the package.

    ITU-T Recommendation P.862.2 (2007).
    """
    if sample_rate != 16000:
        raise InputError(
            f"sample_rate is {sample_rate} Hz but wide-band PESQ is defined at 16000 Hz; "
            "resample both recordings to 16000 Hz"
        )
    package = _optional("pesq")

    def score(estimate: np.ndarray, reference: np.ndarray) -> float:
        try:
            with np.errstate(invalid="ignore"):
                return float(package.pesq(sample_rate, reference, estimate, "wb"))
        except package.PesqError as error:
            raise InputError(f"PESQ cannot score this recording: {_reason(error)}") from error

    return _each(score, estimate, reference)


def estoi(estimate: Signal, reference: Signal, *, sample_rate: int = 16000) -> Tensor:
    """Extended short-time objective intelligibility, from about 0 to 1 (fully intelligible).

    estimate, reference: (L,) or (B, L) at `sample_rate` Hz. Needs the package `pystoi`.
    Raises InputError for recordings with under 0.4 s of speech, or without the package.

    Jensen and Taal (2016), "An algorithm for predicting the intelligibility of speech masked by
    modulated noise maskers", IEEE/ACM TASLP 24(11).
    """
    package = _optional("pystoi")

    def score(estimate: np.ndarray, reference: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(package.stoi(reference, estimate, sample_rate, extended=True))
            except RuntimeWarning as warning:
                raise InputError(
                    "ESTOI cannot score this recording: it needs 0.4 s of speech or more"
                ) from warning

    return _each(score, estimate, reference)


def _pair(estimate: Signal, reference: Signal) -> tuple[Tensor, Tensor]:
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


def _optional(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"this metric needs the package {name}; pip install signal-diffusion[evaluate]"
        ) from error


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else type(error).__name__
    return reason.decode() if isinstance(reason, bytes) else str(reason)


def _each(
    score: Callable[[np.ndarray, np.ndarray], float], estimate: Signal, reference: Signal
) -> Tensor:
    pair = [x.detach().cpu().numpy() for x in _pair(estimate, reference)]
    rows = zip(*(np.atleast_2d(x) for x in pair), strict=True)
    scores = [score(one, other) for one, other in rows]
    return torch.tensor(scores, dtype=torch.float64).reshape(pair[0].shape[:-1])
