"""Denoise whole recordings, in the array type, rate and scale that they came in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.levels import level_db
from signal_diffusion.nn.frames import Identity
from signal_diffusion.noise import Noise
from signal_diffusion.recordings import resample
from signal_diffusion.schedules import Schedule, log_snr_grid, power_grid

Progress = Callable[[int, int], None]
Signal = TypeVar("Signal", Tensor, NDArray[np.floating])

#: Samples of the pieces that a long recording is processed in: a minute at 16 kHz.
PIECE = 960_000

#: Rows up to which a short array is taken for channels, not for the frames of a turned array.
MOST_CHANNELS = 64

#: Least level of the loud frames under the peak, in dB, that normalisation reckons with.
LOWEST_DB = -40.0


def denoise(
    denoiser: Denoiser,
    signal: Signal,
    *,
    sample_rate: float | None = None,
    steps: int = 1,
    sampler: Callable[..., Tensor] = samplers.ddim,
    seed: int = 0,
    noise_std: float | None = None,
    progress: Progress | None = None,
) -> Signal:
    """Estimate the clean recording under a noisy one, as a draw from p(x_0 | y), or its mean.

    The channels are denoised each on its own, as rows of one batch. The recording is brought to the
    denoiser's rate and level and back, with one gain for all channels, so that
    `denoise(a * signal) == a * denoise(signal)`. Silence stays silent. Long recordings are
    processed in pieces with the context that the receptive field asks for: that bounds the memory
    and changes nothing else.

    Args:
        denoiser: of a paired process, which starts at the recording (a bridge, a mean-reverting
            one), or of an unpaired one, where the recording is a state: that of `noise_std`.
        signal: noisy recording, (L,) or (C, L), floating point, numpy or torch.
        sample_rate: of the signal in Hz; None means the denoiser's own.
        steps: times of the grid; with `ddim`, calls of the network. One step gives the mean.
        sampler: a function of `samplers`, or one of the same form.
        seed: of the fresh noise, where there is some.
        noise_std: standard deviation of the recording's white Gaussian noise, in its own units:
            for unpaired processes, and for them alone.
        progress: called as progress(done calls, all calls).

    Returns:
        The estimate, of the signal's type, dtype, device and shape.

    Raises:
        InputError: the signal, the steps, the seed or the noise_std can't be used.

    >>> import torch
    >>> from signal_diffusion import GaussianDenoiser, denoise, schedules
    >>> flat = torch.ones(51)                     # signal and noise of equal power at 100 samples
    >>> wiener = GaussianDenoiser(schedules.BrownianBridge(), variance=flat, noise_variance=flat)
    >>> y = torch.randn(100)
    >>> torch.allclose(denoise(wiener, y), y / 2, atol=1e-5)
    True
    """
    _require(denoiser, sample_rate, seed, noise_std)
    samples = _samples(signal)
    model_rate = denoiser.sample_rate or sample_rate or 1
    rate = sample_rate or model_rate
    x = torch.from_numpy(resample(samples, rate, model_rate)).to(_device(denoiser))
    x, gain = _levelled(x, denoiser.level_db)
    if noise_std is None:
        times = power_grid(denoiser.schedule, steps)
    else:
        times = _times_from(denoiser.schedule, noise_std * float(gain), steps)
    with torch.no_grad():
        x_hat = _Sampling(denoiser, times, sampler, seed).in_pieces(x, progress)
    cleaned = (x_hat / gain * _sounding(x)).cpu().numpy()
    return _like(signal, resample(cleaned, model_rate, rate)[:, : samples.shape[1]])


@dataclass(frozen=True)
class _Sampling:
    """One way of drawing estimates, for a whole recording or a piece of one."""

    denoiser: Denoiser
    times: Tensor
    sampler: Callable[..., Tensor]
    seed: int

    def __call__(self, x: Tensor, start: int, progress: Progress | None) -> Tensor:
        """Noisy rows (C, L), which begin at sample `start`, to clean rows (C, L)."""
        denoiser, codec = self.denoiser, getattr(self.denoiser, "codec", None) or Identity()
        state, y = codec.encode(x[:, None]), None
        noise = Noise(self.seed, rows=[(row, 0) for row in range(len(x))], channels=state.shape[1])
        first = start // codec.hop
        if denoiser.schedule.paired:
            y = state
            state = samplers.initial_state(
                denoiser.schedule, self.times[0], y=y, noise=noise, start=first,
                length=y.shape[-1],
            )  # fmt: skip
        else:
            state = denoiser.schedule(self.times[0])[0].to(state) * state
        x_hat = self.sampler(
            denoiser, state, self.times, y=y, noise=noise, start=first, progress=progress
        )
        return codec.decode(x_hat, x.shape[-1])[:, 0]

    def in_pieces(self, x: Tensor, progress: Progress | None) -> Tensor:
        """The same for a recording of any length: pieces with the context that their ends need.

        Pieces are cut, never padded, at the recording's ends, and lie on whole steps of the state,
        so that the result is that of the whole recording.
        """
        calls = samplers.calls(self.sampler, len(self.times))
        if calls is None or self.denoiser.context is None:
            return self(x, 0, progress)
        grid = self.denoiser.hop
        past, future = (-(-calls * n // grid) * grid for n in self.denoiser.context)
        size = max(-(-PIECE // grid) * grid, 4 * (past + future))
        starts = range(0, x.shape[-1], size)
        pieces = []
        for index, start in enumerate(starts):
            low, high = max(0, start - past), min(x.shape[-1], start + size + future)
            told = _part_of(progress, index, len(starts))
            piece = self(x[:, low:high], low, told)
            pieces.append(piece[:, start - low : start - low + size])
        return torch.cat(pieces, dim=-1)


def _part_of(progress: Progress | None, index: int, pieces: int) -> Progress | None:
    """Progress within one of several pieces, told as that of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(index * total + done, pieces * total)


def _times_from(schedule: Schedule, noise_std: float, steps: int) -> Tensor:
    """The grid that begins where sigma / alpha is the recording's noise."""
    first = schedule.time_at(torch.tensor(-math.log(noise_std), dtype=torch.float64))
    if not schedule.t_min < first <= schedule.t_max:
        raise InputError(f"noise_std is {noise_std:g}, out of the reach of {schedule}")
    return log_snr_grid(schedule, steps, first=float(first))


def _levelled(x: Tensor, target_db: float | None) -> tuple[Tensor, Tensor]:
    """The recording (C, L) at the target level, and the gain that brought it there."""
    peak = x.abs().max()
    if target_db is None or peak == 0:
        return x, torch.ones_like(peak)
    # Relative to the peak, so that no scale of the input underflows; with a floor, since a few
    # words in a long digital silence have the level of the silence.
    loudest = level_db(x / peak).max().clamp_min(LOWEST_DB)
    gain = 10 ** ((target_db - loudest) / 20) / peak
    return x * gain, gain


def _sounding(x: Tensor) -> Tensor:
    """1 for rows that hold a signal, 0 for silent ones: (C, 1)."""
    return (x != 0).any(dim=-1, keepdim=True).to(x.dtype)


def _samples(signal: Tensor | NDArray[np.floating]) -> NDArray[np.float32]:
    """A float32 copy (C, L) on the CPU, once it is known to be a recording."""
    _require_signal(signal)
    array = signal.detach().cpu().float().numpy() if isinstance(signal, Tensor) else signal
    samples = np.array(np.atleast_2d(array), dtype=np.float32, order="C")
    if not np.isfinite(samples).all():
        raise InputError("signal holds NaN, infinite or huge samples: replace them first")
    return samples


def _like(signal: Signal, cleaned: NDArray[np.float32]) -> Signal:
    cleaned = cleaned.reshape(signal.shape)
    if isinstance(signal, Tensor):
        return torch.from_numpy(cleaned).to(signal)
    return cleaned.astype(signal.dtype)


def _device(denoiser: Denoiser) -> torch.device:
    held = next(chain(denoiser.parameters(), denoiser.buffers()), None)
    return torch.device("cpu") if held is None else held.device


def _require(denoiser: Denoiser, rate: float | None, seed: int, noise_std: float | None) -> None:
    name = type(denoiser.schedule).__name__
    if denoiser.schedule.paired and noise_std is not None:
        raise InputError(f"noise_std is {noise_std}, but {name} starts at the recording: leave it")
    if not denoiser.schedule.paired and (noise_std is None or not 0 < noise_std < float("inf")):
        raise InputError(f"noise_std is {noise_std}: with {name} give the noise's deviation, > 0")
    if rate is not None and not 0 < rate < float("inf"):
        raise InputError(f"sample_rate is {rate} Hz; it must be positive")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is {seed!r}; it must be a whole number, 0 or more")


def _require_signal(signal: object) -> None:
    if not isinstance(signal, (np.ndarray, Tensor)):
        raise InputError(f"signal is a {type(signal).__name__}; pass a numpy array or a tensor")
    shape = tuple(signal.shape)
    if len(shape) not in (1, 2) or 0 in shape:
        raise InputError(f"signal has the shape {shape}; pass (L,) or (C, L), none of them 0")
    if len(shape) == 2 and shape[0] > max(shape[1], MOST_CHANNELS):
        raise InputError(f"signal has the shape {shape}, like (frames, channels): pass signal.T")
    if not (signal.is_floating_point() if isinstance(signal, Tensor) else signal.dtype.kind == "f"):
        raise InputError(f"signal is {signal.dtype}; pass floats (integers over their full scale)")
