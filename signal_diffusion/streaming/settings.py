"""How to denoise, whatever the recording."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.gaps import filled
from signal_diffusion.errors import InputError

Signal = TypeVar("Signal", Tensor, NDArray[np.floating])
Mask = Tensor | NDArray[np.bool_]
#: Rows up to which a short array is taken for channels, not for the frames of a turned array.
MOST_CHANNELS = 64
#: Largest ratio of a recording's rate to the denoiser's, and of that to the recording's: below, too
#: little of the band that the denoiser works on is left.
MOST_RESAMPLED, LEAST_RESAMPLED = 256, 16
#: Largest magnitude of a sample: what is larger is no recording, and float32 would overflow.
LARGEST = 1e36


def model_or_given_rate(denoiser: Denoiser, sample_rate: float | None) -> float:
    """The rate of a recording in Hz: the one given, or else the denoiser's own, with a warning."""
    require_number("sample_rate", sample_rate)
    if sample_rate is not None and not 0 < sample_rate < float("inf"):
        raise InputError(f"sample_rate is {sample_rate} Hz; it must be positive")
    own = denoiser.sample_rate
    if sample_rate is None and own:
        warnings.warn(
            f"sample_rate is not given: the signal is taken to be at the model's {own} Hz",
            stacklevel=3,
        )
    if sample_rate and own and not 1 / LEAST_RESAMPLED <= sample_rate / own <= MOST_RESAMPLED:
        low, high = own / LEAST_RESAMPLED, own * MOST_RESAMPLED
        raise InputError(
            f"sample_rate is {sample_rate} Hz, but this model is for {own} Hz: "
            f"it takes {low:g} to {high:g} Hz; if the rate is wrong, as where milliseconds are "
            "read as seconds, pass the right one (--rate)"
        )
    return sample_rate or own or 1


def block_of(block: object, channels: int | None) -> Array:
    """A block (n,), for one channel, or (C, n) as (C, n), once it is known to be one.

    Args:
        block: what was handed in.
        channels: C; None takes any.
    """
    if not isinstance(block, np.ndarray) or block.dtype.kind != "f":
        kind = getattr(block, "dtype", type(block).__name__)
        raise InputError(f"block is {kind}; pass a numpy array of floats in [-1, 1]")
    found = 1 if block.ndim == 1 else block.shape[0] if block.ndim == 2 else None
    turned = found is not None and channels is None and found > max(block.size // found, 64)
    if found is None or turned or (channels is not None and found != channels):
        wanted = "(n,) or (C, n)" if channels is None else f"({channels}, n)"
        wanted = "(n,) or (1, n)" if channels == 1 else wanted
        mend = ": pass block.T" if turned or block.shape[::-1][:1] == (channels,) else ""
        raise InputError(f"block has the shape {block.shape}; this stream takes {wanted}{mend}")
    return np.atleast_2d(block)


def samples_of(signal: Tensor | NDArray[np.floating], missing: Array | None = None) -> Array:
    """The signal as (C, L) on the CPU, float64 if it was and else float32.

    Samples that are `missing` (C, L), whatever they hold, are filled in from their neighbours.
    """
    _require_signal(signal)
    if isinstance(signal, Tensor):
        signal = signal.detach().cpu()
        array = (signal if signal.dtype == torch.float64 else signal.float()).numpy()
    else:
        array = signal
    # Of masked arrays, the data alone: what is masked is missing.
    array = np.atleast_2d(np.asarray(array))
    return checked(array if missing is None else filled(array, missing))


def mask_of(missing: Mask | None, signal: Tensor | NDArray[np.floating]) -> Array | None:
    """Which samples of a signal are missing, as (C, L); those that a masked array masks, too.

    Raises:
        InputError: the mask does not fit the signal, or leaves a channel without any sample.
    """
    masked = np.ma.getmaskarray(signal) if isinstance(signal, np.ma.MaskedArray) else None
    if missing is None:
        if masked is None or not masked.any():
            return None
        missing = masked
    mask = missing.detach().cpu().numpy() if isinstance(missing, Tensor) else np.asarray(missing)
    if mask.dtype != bool or mask.shape != tuple(signal.shape):
        raise InputError(
            f"missing is {mask.dtype} of shape {mask.shape}; pass bool of the signal's shape, "
            f"{tuple(signal.shape)}"
        )
    mask = np.atleast_2d(mask if masked is None else mask | masked)
    if mask.all(axis=-1).any():
        raise InputError("missing leaves a channel without any sample: leave that channel out")
    return mask


def checked(block: Array) -> Array:
    """A block (C, n) as float64 if it was and else float32, once it is known to be sound."""
    x = block.astype(np.float64 if block.dtype == np.float64 else np.float32, copy=False)
    sound = np.abs(x) <= LARGEST
    if not sound.all():
        channel, place = np.argwhere(~sound)[0]
        raise InputError(
            f"signal holds NaN, infinite or huge samples: {int((~sound).sum())} of {x.size}, the "
            f"first is number {place} of channel {channel}: replace them first"
        )
    return x


def like(signal: Signal, cleaned: Array) -> Signal:
    """Samples (C, L) in the type, dtype, device and shape of a signal."""
    cleaned = cleaned.reshape(signal.shape)
    if isinstance(signal, Tensor):
        return torch.from_numpy(cleaned).to(signal)
    return cleaned.astype(signal.dtype)


def _require_signal(signal: object) -> None:
    if not isinstance(signal, (np.ndarray, Tensor)):
        raise InputError(f"signal is a {type(signal).__name__}; pass a numpy array or a tensor")
    shape = tuple(signal.shape)
    if len(shape) not in (1, 2) or 0 in shape:
        raise InputError(
            f"signal has the shape {shape}; pass (L,) or (C, L), or a batch of them, (B, C, L), "
            "none of them 0"
        )
    if len(shape) == 2 and shape[0] > max(shape[1], MOST_CHANNELS):
        raise InputError(f"signal has the shape {shape}, like (frames, channels): pass signal.T")
    if not (signal.is_floating_point() if isinstance(signal, Tensor) else signal.dtype.kind == "f"):
        raise InputError(f"signal is {signal.dtype}; pass floats (integers over their full scale)")


BANDS = ("full", "model")
#: Seconds of the longest piece.
LONGEST = 1e6
#: Steps of a posterior sample, where several are drawn and nothing else is said.
STEPS_OF_SHOTS = 16


@dataclass(frozen=True)
class Settings:
    """How to denoise, whatever the recording.

    Args:
        steps: times of the grid; with `ddim`, calls of the network. One gives the mean of what the
            clean recording may be, more draw a sample of it. None means 1, or 16 for several shots.
        sampler: a function of `samplers`, its name, or a function of the same form.
        seed: of the fresh noise, where there is some.
        noise_std: standard deviation of the recording's white Gaussian noise, in its own units: for
            unpaired processes, and for them alone.
        shots: samples of the posterior that are drawn and averaged.
        band: "full" keeps what lies above the denoiser's band, turned down as its own highest
            octave was; "model" drops it.
        strength: from 0, the recording as it came, to 1, the estimate.
        level: of the recording's loud frames (see `levels.level_db`) in dB of full scale, one or
            one a channel, for a constant gain; None means that it is measured.
        piece: seconds that are processed at once; None means as much as memory is meant for.

    Raises:
        InputError: a value is out of its range.

    >>> Settings().times, Settings(shots=8).times
    (1, 16)
    """

    steps: int | None = None
    sampler: Callable[..., Tensor] = samplers.ddim
    seed: int = 0
    noise_std: float | None = None
    shots: int = 1
    band: str = "full"
    strength: float = 1.0
    level: float | Sequence[float] | None = None
    piece: float | None = None

    def __post_init__(self) -> None:
        require_whole("steps", self.steps, least=1)
        require_whole("seed", self.seed, least=0)
        require_whole("shots", self.shots, least=1)
        if self.band not in BANDS:
            raise InputError(f"band is '{self.band}': choose one of {', '.join(BANDS)}")
        object.__setattr__(self, "sampler", samplers.sampler_named(self.sampler))
        for name in ("strength", "piece", "noise_std"):
            require_number(name, getattr(self, name))
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength is {self.strength}; it goes from 0 (as it came) to 1")
        if self.piece is not None and not 0 < self.piece <= LONGEST:
            raise InputError(f"piece is {self.piece} s; it goes up to {LONGEST:g}, above 0")
        given: Any = self.level
        for level in given if isinstance(given, (tuple, list)) else [given]:
            require_number("level", level)
            if level is not None and not -200 <= level <= 200:
                raise InputError(f"level is {level} dB of full scale; it goes from -200 to 200")
        if self.shots > 1 and self.steps == 1:
            raise InputError(
                f"shots is {self.shots}, but one step gives the same mean every time: "
                f"pass steps, e.g. {STEPS_OF_SHOTS}"
            )

    @property
    def times(self) -> int:
        """Times of the grid, once the default is filled in."""
        if self.steps is not None:
            return self.steps
        return 1 if self.shots == 1 else STEPS_OF_SHOTS


def require_number(name: str, value: object) -> None:
    """Raise an InputError for an option that is neither a number nor None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
        raise InputError(f"{name} is {value!r}; it must be a number")


def require_whole(name: str, value: int | None, *, least: int) -> None:
    """Raise an InputError for an option that is neither a whole number nor None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} is {value!r}; it must be a whole number, {least} or more")


def device_named(name: str) -> str:
    """The device of a name, of which "auto" is the best there is."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available = [device for device, there in here.items() if there] + ["cpu"]
    if name == "auto":
        return available[0]
    if name not in available:
        raise InputError(f"device is '{name}'; this machine has: auto, {', '.join(available)}")
    return name
