"""Turn mel spectrograms into sound by DiffWave, as published."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.nn.diffwave import DiffWave
from signal_diffusion.nn.frames import signals_of
from signal_diffusion.nn.mel import UnitMel
from signal_diffusion.noise import Noise
from signal_diffusion.samplers import NoiseSource, Progress, update
from signal_diffusion.schedules import Schedule
from signal_diffusion.streaming.settings import require_whole

#: Rates of the published fast sampling.
FAST = (1e-4, 1e-3, 1e-2, 5e-2, 2e-1, 5e-1)


def diffwave(
    denoiser: NetworkDenoiser,
    frames: NDArray[np.floating] | Tensor,
    *,
    betas: Sequence[float] = FAST,
    seed: int = 0,
    progress: Progress | None = None,
) -> Array:
    """Sound (256 N,) of mel frames (bands, N), as `nn.mel.UnitMel` makes them.

    The whole is computed at once: memory goes by the length.

    Args:
        denoiser: DiffWave, trained by `experiment=diffwave`.
        frames: mel frames between 0 and 1.
        betas: rates of the steps, from the last to the first: see `rate_grid`.
        seed: of the noise.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: the model is another, or the frames are not of its kind.
    """
    mel = mel_of(denoiser)
    require_whole("seed", seed, least=0)
    cond = _checked(frames, mel)[None].to(next(denoiser.parameters()).device)
    times, noise = rate_grid(denoiser.schedule, betas), Noise(seed, rows=[(0, 0)], channels=1)
    x = noise(0, 0, mel.hop * cond.shape[-1]).to(cond)
    sound = limited(denoiser, x, times, cond=cond, noise=noise, progress=progress)
    return signals_of(denoiser.codec, sound, sound.shape[-1])[0]


def mel_of(denoiser: NetworkDenoiser) -> UnitMel:
    """The settings of the frames that a DiffWave takes.

    Raises:
        InputError: the model is another.
    """
    backbone, rate = denoiser.backbone, denoiser.sample_rate
    if not isinstance(backbone, DiffWave) or not backbone.mels or rate is None:
        raise InputError("this model is no DiffWave with mel bands: train experiment=diffwave")
    return UnitMel(rate, backbone.mels)


def rate_grid(schedule: Schedule, betas: Sequence[float]) -> Tensor:
    """Falling times (n,) of the same noise as n steps of the rates beta_1, ..., beta_n. float64.

        alpha(t_k)^2 / sigma(t_k)^2 = a_k / (1 - a_k),  a_k = prod_{m <= k} (1 - beta_m)

    On `DiscreteVariancePreserving` they are the fractional steps of DiffWave's fast sampling. Kong
    and others 2021, arXiv:2009.09761, appendix B.

    Raises:
        InputError: a rate is not between 0 and 1, or the noise is not within the schedule's.

    >>> from signal_diffusion.schedules import DiscreteVariancePreserving
    >>> rate_grid(DiscreteVariancePreserving(), [1e-4, 1e-3, 1e-2]) * 50
    tensor([5.0867, 1.8941, 1.0000], dtype=torch.float64)
    """
    rates = torch.tensor(list(betas), dtype=torch.float64)
    if not len(rates) or not ((rates > 0) & (rates < 1)).all():
        raise InputError(f"betas is {list(betas)}: give rates between 0 and 1, as {FAST}")
    kept = torch.log1p(-rates).cumsum(0).flip(0)
    levels = (kept - torch.log(-torch.expm1(kept))) / 2
    least = float(schedule.log_snr(torch.tensor(schedule.t_max, dtype=torch.float64)))
    if levels[0] < least - 1e-9:
        raise InputError(
            f"betas come to a log-SNR of {levels[0]:.3g}, the schedule to {least:.3g}: lower them"
        )
    return schedule.time_at(levels)


@torch.no_grad()
def limited(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    *,
    cond: Tensor | None = None,
    noise: NoiseSource,
    progress: Progress | None = None,
) -> Tensor:
    """Ancestral sampling, see `samplers.ddpm`, with every state limited to [-1, 1].

    The paper's algorithm has no limits, the package `diffwave` 0.1.7 has these.
    """
    schedule, pairs = denoiser.schedule, list(pairwise(times))
    for call, (t, s) in enumerate(pairs, start=1):
        x_hat = denoiser(x, t.to(x), None, cond)
        (alpha_t, _, sigma_t), (alpha_s, _, sigma_s) = schedule(t), schedule(s)
        r, z = alpha_t * sigma_s**2 / (alpha_s * sigma_t**2), noise(call, 0, x.shape[-1]).to(x)
        x = update(schedule, x, x_hat, t, s, r=r, z=z).clamp(-1, 1)
        if progress is not None:
            progress(call, len(times))
    x_hat = denoiser(x, times[-1].to(x), None, cond).clamp(-1, 1)
    if progress is not None:
        progress(len(times), len(times))
    return x_hat


def _checked(frames: NDArray[np.floating] | Tensor, mel: UnitMel) -> Tensor:
    """Frames (bands, N), once they are known to be of that kind."""
    found = torch.as_tensor(frames).float()
    if found.ndim != 2 or len(found) != mel.bands or not found.shape[1]:
        raise InputError(
            f"the mel spectrogram has the shape {tuple(found.shape)}; this model takes "
            f"(bands, frames) = ({mel.bands}, 1 or more)"
        )
    if not ((found >= 0) & (found <= 1)).all():
        raise InputError("the mel spectrogram goes beyond 0 and 1: make it by nn.mel.UnitMel")
    return found
