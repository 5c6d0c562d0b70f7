"""How close an estimate is to its reference: SNR, SI-SDR, spectra, kurtosis, envelopes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.errors import InputError

Signal = Tensor | np.ndarray
#: Hz: slower changes of the envelope are drifts, and no blows of a fault.
SLOWEST = 5.0
#: Share of a frequency within which its peak is looked for.
NEAR = 0.02
#: Of `voice_lost`: seconds of a window and of a block, Hz of a band, dB below the active level down
#: to which blocks are active, and dB that a block loses at most.
WINDOW, BLOCK, BAND, MARGIN, MOST_LOST = 0.032, 0.128, 500.0, 15.9, 30.0


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


def voice_lost(estimate: Signal, reference: Signal, *, sample_rate: float) -> Tensor:
    """By how many dB active speech fell; 0 where all is kept, negative where it is louder.

    In blocks of `BLOCK` seconds and bands of `BAND` Hz the estimate is projected onto the reference
    (least squares, complex STFT), so that residual noise is no voice; the share of the projection
    that unrelated noise has by chance is subtracted. A block's loss is the level of the reference
    less that of its projections, at most `MOST_LOST`; the result is its mean over active blocks,
    those less than `MARGIN` below the active level, as in ITU-T P.56 (2011).
    estimate, reference: (L,) or (B, L). Raises InputError where their shapes differ, or where the
    recording is shorter than two blocks or silent.

    The loss of a filter that is applied to the voice alone (Fingscheidt, Suhadi and Stan 2008,
    "Environment-optimized speech enhancement", IEEE TASLP 16(4)), for methods that are no filters.

    >>> voice = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    >>> voice_lost(0.5 * voice, voice, sample_rate=16000)
    tensor(6.0206, dtype=torch.float64)
    """
    estimate, reference = pair_of(estimate, reference)
    window = max(2, 2 * round(WINDOW * sample_rate / 2))
    frames, bins = round(BLOCK / WINDOW * 2), min(round(BAND * WINDOW), window // 2 + 1)
    if reference.shape[-1] < 2 * BLOCK * sample_rate + window:
        raise InputError(
            f"the recording is shorter than {2 * BLOCK + WINDOW:.2g} s: no voice level"
        )
    spectra = (_spectrogram(x, window, window // 2) for x in (estimate, reference))
    e, s = (x.unfold(-2, bins, bins).unfold(-2, frames, frames).flatten(-2) for x in spectra)
    voice, both = s.abs().square().sum(-1), (e * s.conj()).sum(-1).abs().square()
    kept = both / voice.clamp_min(1e-300)
    # Frames overlap by half: of two values one is free.
    rest = (e.abs().square().sum(-1) - kept) / (frames * bins / 2 - 1)
    kept, voice = (kept - rest).clamp_min(0).sum(-2), voice.sum(-2)
    if not (voice.sum(-1) > 0).all():
        raise InputError("the reference is silent: it has no voice level")
    active = voice > 0
    for _ in range(4):
        level = (voice * active).sum(-1, keepdim=True) / active.sum(-1, keepdim=True)
        active = voice > level * 10 ** (-MARGIN / 10)
    least = voice * 10 ** (-MOST_LOST / 10)
    lost = 10 * torch.log10(voice.clamp_min(1e-300) / kept.maximum(least).clamp_min(1e-300))
    return (lost * active).sum(-1) / active.sum(-1)


def pair_of(estimate: Signal, reference: Signal) -> tuple[Tensor, Tensor]:
    """Both as float64 tensors (L,) or (B, L); raises InputError where their shapes differ."""
    pair = float64(estimate), float64(reference)
    if pair[0].shape != pair[1].shape:
        raise InputError(
            f"estimate has shape {tuple(pair[0].shape)} but reference {tuple(pair[1].shape)}; "
            "cut both to the same samples"
        )
    if pair[0].ndim not in (1, 2) or pair[0].shape[-1] == 0:
        raise InputError(f"estimate has shape {tuple(pair[0].shape)}; pass (L,) or (B, L), L > 0")
    return pair


def float64(x: Signal) -> Tensor:
    """A signal as a float64 tensor, on the CPU, since not every device has float64."""
    # Tensors have no negative strides, as reversed arrays do.
    return torch.as_tensor(x if isinstance(x, Tensor) else np.ascontiguousarray(x)).cpu().double()


def _energy(x: Tensor) -> Tensor:
    return x.square().sum(-1)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _decibels(signal: Tensor, noise: Tensor) -> Tensor:
    return 10 * torch.log10(signal / noise)


def _spectrogram(x: Tensor, window: int, hop: int) -> Tensor:
    taper = torch.hann_window(window, dtype=x.dtype, device=x.device)
    return torch.stft(x, window, hop, window=taper, center=False, return_complex=True)


def _power_spectrogram(x: Tensor, window: int, hop: int) -> Tensor:
    return _spectrogram(x, window, hop).abs().square()


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
