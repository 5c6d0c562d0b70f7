"""Sound through its mel spectrogram and back, as vocoders are measured."""

from __future__ import annotations

import numpy as np
import torch

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.mel import Mel, padded
from signal_diffusion.tasks.buffers import Array
from signal_diffusion.tasks.settings import Settings
from signal_diffusion.tasks.vocode import vocode

#: Of the algorithm of Griffin and Lim in `librosa`.
ITERATIONS = 64


def frames_of(x: Array, mel: Mel) -> torch.Tensor:
    """The log-mel frames (bands, N) of sound (L,), with zeros up to whole hops."""
    return mel(padded(torch.from_numpy(np.ascontiguousarray(x, np.float32))[None], mel))[0]


def resynthesised(denoiser: NetworkDenoiser, sound: Array, settings: Settings) -> Array:
    """What a vocoder makes of the mel frames of sound (C, L) at its rate, channel by channel.

    Raises:
        InputError: the model is no vocoder, or the sound is too short.
    """
    assert denoiser.mel is not None
    made = [
        vocode(
            denoiser, frames_of(x, denoiser.mel), steps=settings.times, sampler=settings.sampler,
            seed=settings.seed,
        )
        for x in sound
    ]  # fmt: skip
    return np.stack(made)[:, : sound.shape[1]]


def by_librosa(sound: Array, mel: Mel) -> Array:
    """What librosa makes of the mel frames of sound (C, L), channel by channel.

    Non-negative least squares, and `ITERATIONS` of Griffin and Lim (1984), "Signal estimation from
    modified short-time Fourier transform", IEEE TASSP 32(2).
    """
    import librosa

    made = []
    for x in sound:
        power = frames_of(x, mel).exp().numpy()
        magnitude = librosa.feature.inverse.mel_to_stft(
            power, sr=mel.sample_rate, n_fft=mel.window, fmin=mel.low, fmax=mel.high
        )
        wave = librosa.griffinlim(
            magnitude, n_iter=ITERATIONS, hop_length=mel.hop, n_fft=mel.window,
            length=mel.hop * (power.shape[1] - 1), random_state=0,
        )  # fmt: skip
        made.append(wave)
    return np.stack(made)[:, : sound.shape[1]]
