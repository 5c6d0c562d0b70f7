"""Turn mel spectrograms into sound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.nn.magnitudes import Magnitudes
from signal_diffusion.nn.mel import Mel, conditioner, padded, scale_of
from signal_diffusion.noise import Noise
from signal_diffusion.schedules import power_grid
from signal_diffusion.streaming.pieces import Progress, part_of
from signal_diffusion.streaming.settings import Settings, require_whole

#: Calls of the network: more change little.
STEPS = 1


#: Frames that are turned into sound at once: eight seconds, and their context.
PIECE = 512


#: Frames that stand for all, where a sampler doesn't tell what it depends on.
FAR = 1 << 40


#: Natural logarithm of a power that no recording in [-1, 1] has.
MOST = 30.0


def vocode(
    denoiser: NetworkDenoiser,
    log_mel: NDArray[np.floating] | Tensor,
    *,
    steps: int = STEPS,
    sampler: Callable[..., Tensor] = samplers.ddim,
    seed: int = 0,
    progress: Progress | None = None,
) -> Array:
    """Sound (hop (N - 1),) of log-mel frames (bands, N), as `denoiser.mel` makes them.

    The magnitudes by the pseudo-inverse are what a bridge of magnitudes starts from; phases are
    found by `phases.griffin_lim`. Loudness is free: `vocode(log_mel + c)` is `exp(c / 2)` times as
    loud. Long spectrograms are turned into sound piece by piece, which changes nothing else.

    Args:
        denoiser: a vocoder, such as the shipped `vocoder`.
        log_mel: natural logarithms of the power in mel bands, see `mel.Mel`.
        steps: times of the grid; with `ddim`, calls of the network.
        sampler: a function of `samplers`, or one of the same form.
        seed: of fresh noise, which a bridge needs in several steps.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: the model is no vocoder, or the frames are not of its kind.

    >>> import torch
    >>> from signal_diffusion import Denoiser
    >>> vocoder = Denoiser.from_pretrained("vocoder")
    >>> sound = 0.1 * torch.randn(1, 16000)
    >>> vocode(vocoder, vocoder.mel(sound)[0]).shape
    (15872,)
    """
    mel, codec = require_vocoder(denoiser)
    require_whole("steps", steps, least=1)
    require_whole("seed", seed, least=0)
    frames = checked_frames(log_mel, mel)
    shift = scale_of(frames)
    frames = (frames - shift).to(next(denoiser.parameters()).device)
    start, cond = codec.compressed(mel.magnitudes(frames)), conditioner(frames)
    walk = _Walk(denoiser, mel, codec, sampler, power_grid(denoiser.schedule, steps), seed)
    count = frames.shape[-1]
    starts = range(0, count, PIECE)
    parts = [
        walk.piece(start, cond, n, min(n + PIECE, count), part_of(progress, k, len(starts)))
        for k, n in enumerate(starts)
    ]
    sound = np.concatenate(parts)[: mel.hop * (count - 1)]
    return (sound * math.exp(float(shift) / 2)).astype(np.float32)


def require_vocoder(denoiser: NetworkDenoiser) -> tuple[Mel, Magnitudes]:
    """The settings of the frames that a vocoder takes, and its codec.

    Raises:
        InputError: the model is none.
    """
    if denoiser.kind != "vocoder" or not isinstance(denoiser.codec, Magnitudes):
        raise InputError("this model is no vocoder: use one that takes mel frames, e.g. vocoder")
    return cast(Mel, denoiser.mel), denoiser.codec


def checked_frames(log_mel: NDArray[np.floating] | Tensor, mel: Mel) -> Tensor:
    """Log-mel frames as (1, bands, N), once they are known to be of that kind.

    Raises:
        InputError: they are not; tells the shape and the settings that are meant.
    """
    frames = torch.as_tensor(log_mel).float()
    frames = frames[0] if frames.ndim == 3 and len(frames) == 1 else frames
    if frames.ndim != 2 or frames.shape[0] != mel.bands or frames.shape[1] < 2:
        turned = ": pass it turned (.T)" if frames.shape[-1:] == (mel.bands,) else ""
        raise InputError(
            f"the mel spectrogram has the shape {tuple(frames.shape)}{turned}; this vocoder takes "
            f"(bands, frames) = ({mel.bands}, 2 or more), {mel.told}"
        )
    if not torch.isfinite(frames).all():
        raise InputError("the mel spectrogram holds NaN or infinite values: replace them first")
    if frames.min() >= 0 or frames.max() > MOST:
        raise InputError(
            f"the mel spectrogram spans {frames.min():.3g} to {frames.max():.3g}, which is no "
            f"natural logarithm of power; this vocoder takes {mel.told}"
        )
    return frames[None]


@dataclass(frozen=True)
class _Walk:
    """What stays the same for all pieces of a spectrogram."""

    denoiser: NetworkDenoiser
    mel: Mel
    codec: Magnitudes
    sampler: Callable[..., Tensor]
    times: Tensor
    seed: int

    def piece(
        self, start: Tensor, cond: Tensor, first: int, last: int, progress: Progress | None
    ) -> Array:
        """Sound (hop (last - first),) of some of the frames, from all that they depend on."""
        past, future = self._context()
        low, high = max(0, first - past), min(start.shape[-1], last + future)
        y, cond = start[..., low:high], cond[..., low:high]
        noise = Noise(self.seed, rows=[(0, 0)], channels=y.shape[1])
        with torch.no_grad():
            x = samplers.initial_state(
                self.denoiser.schedule, self.times[0], y=y, noise=noise, start=low,
                length=y.shape[-1],
            )  # fmt: skip
            state = self.sampler(
                self.denoiser, x, self.times, y=y, cond=cond, noise=noise, start=low,
                progress=progress,
            )  # fmt: skip
            length = self.mel.hop * (high - low - 1)
            x_hat = self.codec.decode(state, length, start=low)
        sound: Array = x_hat[0, 0].float().cpu().numpy()
        return sound[(first - low) * self.mel.hop : (last - low) * self.mel.hop]

    def _context(self) -> tuple[int, int]:
        """Frames that a frame of the sound depends on before and after itself."""
        calls = samplers.network_calls(self.sampler, len(self.times))
        if calls is None:
            return FAR, FAR
        past, future = (-(-n // self.mel.hop) for n in self.denoiser.context(calls))
        return past, future


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
    mel, _ = require_vocoder(denoiser)
    made = [
        vocode(
            denoiser, frames_of(x, mel), steps=settings.times, sampler=settings.sampler,
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
