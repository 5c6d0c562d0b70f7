"""The way of a recording through a denoiser and back, block by block, at its own rate."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.buffer import Buffer
from signal_diffusion.dsp.drift import DriftFilter, HighPass
from signal_diffusion.dsp.resampling import Resampler
from signal_diffusion.errors import InputError
from signal_diffusion.samplers import Progress
from signal_diffusion.schedules import Schedule, log_snr_grid, power_grid
from signal_diffusion.streaming.gain import (
    LAG,
    Constant,
    Following,
    Normal,
    UpperBand,
    of_sound,
)
from signal_diffusion.streaming.masks import SILENCE, Missing, Silence
from signal_diffusion.streaming.pieces import Pieces, Sampling
from signal_diffusion.streaming.settings import Settings, model_or_given_rate

#: Samples (C, n) of a recording, and the estimates (C, shots, n) of them.
Estimates = tuple[Array, Array]
#: Samples of the lower rate that a resampler may hold back, at most (measured).
RESAMPLER_LAG = 1400
#: Samples, over all rows, that go back at once, which bounds the memory for it.
SLICE = 1 << 16
#: Channels that fit into bounded memory.
MOST_ROWS = 256
#: Draws of all channels that do.
MOST_DRAWS = 4096


class Engine:
    """Blocks of a recording (C, n) in; out come its samples (C, m) with estimates (C, shots, m).

    All estimates together are those of the whole recording, however it is cut:

        estimate = x + strength (up(x_hat - down(x)) + (g - 1) (x - up(down(x))))

    where down and up change the rate to the denoiser's and back. What lies above the denoiser's
    band, x - up(down(x)), is the exact complement of what it was given; it is kept with the gain g
    of `UpperBand`, or dropped (g = 0). A denoiser that changes nothing gives x itself. Denoisers of
    sound get down(x) without its offset and slow drift, which the estimate keeps.

    Args:
        denoiser: see `tasks.denoise.denoise`.
        settings: how to denoise.
        rate: of the recording, Hz.
        channels: C.
        dtype: of the samples, "float32" or "float64".
        normal: what brings the recording to the denoiser's level; None follows that of a stream.
        least: see `Pieces`, in samples of the denoiser's rate.
        frames: samples of the recording, for the progress alone.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: the settings don't fit the denoiser.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        settings: Settings,
        *,
        rate: float,
        channels: int,
        dtype: str = "float32",
        normal: Normal | None = None,
        least: int | None = None,
        frames: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not 1 <= channels <= MOST_ROWS:
            raise InputError(f"the recording has {channels} channels; 1 to {MOST_ROWS} are taken")
        if channels * settings.shots > MOST_DRAWS:
            raise InputError(
                f"{settings.shots} shots of {channels} channels are more than memory is for: "
                f"pass shots=1 to {MOST_DRAWS // channels} (--shots)"
            )
        rate = model_or_given_rate(denoiser, rate)
        self.strength, self.rate, self._shots = settings.strength, rate, settings.shots
        self.model_rate = model_rate = denoiser.sample_rate or rate
        self.resampled = model_rate != rate
        if normal is None and denoiser.level_db is None:
            normal = Normal()
        if normal is None and denoiser.offset is not None:
            raise InputError(
                "this model takes off the recording's median: it can't denoise streams"
            )
        if normal is not None and np.size(normal.gain) not in (1, channels):
            raise InputError(
                f"level has {np.size(normal.gain)} values, but the recording {channels} channels"
            )
        times = grid(denoiser, settings, normal)
        sampling = Sampling(denoiser, times, settings.sampler, settings.seed, settings.shots)
        self.context = sampling.context
        self._gain = self._levelling(denoiser, normal, channels)
        self._drift = DriftFilter(channels) if of_sound(denoiser) else None
        self._high = HighPass()
        self._offset = np.zeros((channels, 1)) + (0.0 if normal is None else normal.offset)
        self._dropped = self._offset if denoiser.offset == "dropped" else 0 * self._offset
        self._pieces = Pieces(
            sampling,
            channels=channels,
            least=least,
            most=None if settings.piece is None else math.ceil(settings.piece * model_rate),
            length=None if frames is None else math.ceil(frames * model_rate / rate),
            progress=progress,
        )
        rows = channels * settings.shots
        self._down = Resampler(rate, model_rate, channels=channels, dtype=dtype)
        self._up_change = Resampler(model_rate, rate, channels=rows, dtype=dtype)
        self._up_given = Resampler(model_rate, rate, channels=channels, dtype=dtype)
        self._upper = None
        if self.resampled and settings.band == "full":
            target = denoiser.level_db if denoiser.level_db is not None else 0.0
            self._upper = UpperBand(model_rate, rate, level_db=target)
        self._dry, self._given, self._levelled = Buffer(), Buffer(), Buffer()
        self._change, self._lower = Buffer(), Buffer()
        self._missing = Missing(rate, model_rate, channels=channels) if denoiser.masked else None
        self._silence = Silence(self._offset)
        self._done = self._read = 0

    @property
    def latency(self) -> int | None:
        """Samples after one that the estimate of it depends on, at most; None for all of them."""
        if self.context is None:
            return None
        ahead = self.context[1]
        ahead += max(self._gain.ahead, 0 if self._drift is None else self._drift.ahead)
        if not self.resampled:
            return max(ahead, SILENCE - 1)
        lags = 2 * RESAMPLER_LAG * self.model_rate / min(self.rate, self.model_rate)
        upper = LAG if self._upper is not None else 0
        return max(math.ceil((ahead + upper + lags) * self.rate / self.model_rate), SILENCE - 1)

    def push(self, block: Array, missing: Array | None = None) -> Iterator[Estimates]:
        """What a block (C, n) makes known, in slices of bounded size; consume all of them.

        `missing` (C, n) is true where samples were filled in, which masked denoisers look at.
        """
        self._dry.push(block)
        if self._missing is None:
            missing = None
        else:
            missing = np.zeros(block.shape, bool) if missing is None else missing
            self._missing.push(missing)
        self._silence.push(block, missing)
        self._read += block.shape[1]
        yield from self._given_to_model(self._down.push(self._centred(block)))
        yield from self._ready(SILENCE - 1)

    def flush(self) -> Iterator[Estimates]:
        """The rest, once the recording is over."""
        if not self._read:
            return
        yield from self._given_to_model(self._down.flush(), last=True)
        yield from self._estimated(self._pieces.flush())
        if self.resampled:
            self._change.push(self._by_shots(self._up_change.flush()))
            self._lower.push(self._up_given.flush())
        if self._upper is not None:
            self._upper.flush()
        yield from self._ready(0)

    def _levelling(
        self, denoiser: Denoiser, normal: Normal | None, channels: int
    ) -> Constant | Following:
        if normal is not None and not normal.follows:
            return Constant(normal.gain)
        target = denoiser.level_db
        assert target is not None
        if normal is None:
            return Following(target, channels, first=self.context[1] if self.context else 1 << 62)
        return Following(target, channels, reference_db=target - 20 * np.log10(normal.gain))

    def _given_to_model(self, x: Array, *, last: bool = False) -> Iterator[Estimates]:
        """Samples at the denoiser's rate go to it, without their drift and at its level."""
        self._given.push(x)
        measured = x
        if self._drift is not None:
            # Levels are known at once, so that they need not wait for the drift.
            measured, x = self._high.push(x), self._drift.push(x)
            x = np.concatenate([x, self._drift.flush()], axis=1) if last else x
        levelled = self._gain.push(x, measured, last=last)
        self._levelled.push(levelled)
        yield from self._estimated(self._pieces.push(levelled, self._mask(levelled)))

    def _mask(self, levelled: Array) -> Array | None:
        """Which of the next levelled samples are missing, for denoisers that are told."""
        return None if self._missing is None else self._missing.take(levelled.shape[1])

    def _estimated(self, x_hat: Array) -> Iterator[Estimates]:
        """Estimates (C, shots, n) go back to the recording, slice by slice."""
        size = max(1024, SLICE // (x_hat.shape[0] * x_hat.shape[1]))
        for start in range(0, x_hat.shape[-1], size):
            self._back(x_hat[..., start : start + size])
            yield from self._ready(SILENCE - 1)

    def _back(self, x_hat: Array) -> None:
        """What the denoiser changed goes back to the recording's rate and level."""
        count = x_hat.shape[-1]
        levelled, given = self._levelled.take(count), self._given.take(count)
        gain = self._gain.take(count)
        change = np.subtract(x_hat, levelled[:, None], dtype=np.float64)
        change /= gain[:, None] if gain.ndim else gain
        change = change.astype(given.dtype)
        if not self.resampled:
            self._change.push(change)
            return
        self._change.push(self._by_shots(self._up_change.push(change.reshape(-1, count))))
        self._lower.push(self._up_given.push(given))
        if self._upper is not None:
            self._upper.push(levelled, x_hat)

    def _by_shots(self, rows: Array) -> Array:
        return rows.reshape(len(rows) // self._shots, self._shots, rows.shape[-1])

    def _ready(self, behind: int) -> Iterator[Estimates]:
        """The estimates that are known, `behind` samples before the last one read at most."""
        count = min(len(self._change), len(self._dry) - behind)
        if self._upper is not None:
            count = min(count, self._upper.ready(self._done))
        if count <= 0:
            return
        sounding = self._silence.sounding(count)
        dry, change = self._dry.take(count), self._change.take(count)
        if self.resampled:
            upper = (self._centred(dry) - self._lower.take(count))[:, None]
            gain = self._upper.take(self._done, count) if self._upper is not None else 0.0
            change = change + (gain - 1) * upper
        self._done += count
        change = change * sounding[:, None] - self._dropped[:, None]
        yield dry, np.asarray(dry[:, None] + self.strength * change, dry.dtype)

    def _centred(self, x: Array) -> Array:
        """Samples (C, n) without the channels' offsets."""
        if not self._offset.any():
            return x
        return np.subtract(x, self._offset, dtype=np.float64).astype(x.dtype)


def grid(denoiser: Denoiser, settings: Settings, normal: Normal | None) -> Tensor:
    """The times of the sampler: from the recording, or from the noise that it is said to have."""
    schedule, noise_std, steps = denoiser.schedule, settings.noise_std, settings.times
    name = type(schedule).__name__
    if schedule.paired:
        if noise_std is not None:
            raise InputError(
                f"noise_std is {noise_std}, but {name} starts at the recording: leave it"
            )
        return power_grid(schedule, steps)
    if denoiser.noise_std is not None:
        return _from_noise(schedule, denoiser.noise_std, steps)
    if noise_std is None or not 0 < noise_std < float("inf"):
        raise InputError(f"noise_std is {noise_std}: with {name} give the noise's deviation, > 0")
    if normal is None:
        raise InputError(f"level is missing: with {name} a stream needs the recording's, in dB")
    if np.size(normal.gain) > 1:
        raise InputError(f"level has {np.size(normal.gain)} values: with {name} give one")
    return _from_noise(schedule, noise_std * float(np.max(normal.gain)), steps)


def _from_noise(schedule: Schedule, noise_std: float, steps: int) -> Tensor:
    """The grid that begins where sigma / alpha is the noise at the denoiser's level."""
    first = schedule.time_at(torch.tensor(-math.log(noise_std), dtype=torch.float64))
    if not schedule.t_min < first <= schedule.t_max:
        raise InputError(f"noise_std is {noise_std:g}, out of the reach of {schedule}")
    return log_snr_grid(schedule, steps, first=float(first))


def require_process(denoiser: NetworkDenoiser, settings: Settings) -> None:
    """Raise an InputError for settings that the model's process can't be run with."""

    # Of an unpaired process the times depend on the recording's level, too.
    if denoiser.schedule.paired or settings.noise_std is None:
        grid(denoiser, settings, None)
