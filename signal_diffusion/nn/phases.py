"""Spectra, and phases for spectra that have none."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from signal_diffusion.noise import Noise

#: Magnitudes under this one have no phase.
LEAST = 1e-10


def stft(x: Tensor, *, window: int, hop: int) -> Tensor:
    """Waveforms (B, L) to spectra (B, window // 2 + 1, 1 + L // hop) of centred Hann frames."""
    return torch.stft(
        x, window, hop, window=_hann(window).to(x), pad_mode="constant", return_complex=True
    )


def istft(spectrum: Tensor, *, window: int, hop: int) -> Tensor:
    """Spectra (B, window // 2 + 1, N) to waveforms (B, hop (N - 1)), the inverse of `stft`."""
    length = hop * (spectrum.shape[-1] - 1)
    taper = _hann(window).to(spectrum.real)
    return torch.istft(spectrum, window, hop, window=taper, length=length)


def griffin_lim(
    magnitude: Tensor,
    *,
    window: int,
    hop: int,
    iterations: int,
    momentum: float = 0.99,
    start: int = 0,
) -> Tensor:
    """Waveforms (B, hop (N - 1)) whose spectra have magnitudes (B, window // 2 + 1, N), nearly.

    Each iteration goes to the waveform and back and takes over the phase. The first phases are
    random, but always the same at the same frame. A frame of the result depends on `reach` frames
    on both sides, so that pieces can equal the whole.

    Args:
        magnitude: of the spectra.
        window, hop: of the frames.
        iterations: 0 keeps the phases that it starts with.
        momentum: of the fast variant, from 0, the original one, to under 1.
        start: number of the first frame.

    Source: Griffin and Lim 1984; Perraudin, Balazs and Soendergaard 2013 for the momentum.
    """
    batch, bins, frames = magnitude.shape
    noise = Noise(0, rows=[(0, 0)], channels=bins)
    # Of so wide a normal law all angles are as likely.
    phases = (8 * math.pi * noise(0, start, frames)).to(magnitude).expand(batch, -1, -1)
    spectrum, last = torch.polar(magnitude, phases), None
    for _ in range(iterations):
        waveform = istft(spectrum, window=window, hop=hop)
        back = stft(waveform, window=window, hop=hop)
        ahead = back if last is None else back - momentum / (1 + momentum) * last
        spectrum, last = magnitude * ahead / ahead.abs().clamp_min(LEAST), back
    return istft(spectrum, window=window, hop=hop)


def reach(*, window: int, hop: int, iterations: int) -> int:
    """Frames on both sides that a frame of `griffin_lim` depends on."""
    return -(-window // hop) * (iterations + 1)


@cache
def _hann(window: int) -> Tensor:
    return torch.hann_window(window)
