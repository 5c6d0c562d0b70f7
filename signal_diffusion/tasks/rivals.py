"""What is compared: the input itself, a model, and filters; `outside` has the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Protocol

import numpy as np
import scipy.signal

from signal_diffusion import artifact
from signal_diffusion.baselines import soft_thresholds
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.tasks.buffers import Array
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.measures import require_package
from signal_diffusion.tasks.pairs import Pair, Sound
from signal_diffusion.tasks.settings import Settings

#: Samples of the local Wiener filter.
WIENER = 9


@dataclass(frozen=True)
class Estimate:
    """What a method made of a noisy recording.

    Attributes:
        samples: (C, L).
        taken: seconds of work; None where the work was done elsewhere.
        memory: peak of the process, in bytes, where it had one of its own.
    """

    samples: Array
    taken: float | None = None
    memory: int | None = None


class Method(Protocol):
    """Something that denoises; can be sent to other processes."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> object:
        """Plain value of all that the estimate depends on besides the pair."""

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        """The estimate; raises an InputError where there is none."""


@dataclass(frozen=True)
class Untouched:
    """The noisy recording itself."""

    name: str = "input"

    @property
    def key(self) -> object:
        return "input"

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        return Estimate(sound.noisy)


@dataclass(frozen=True)
class Modelled:
    """A model of this package: its name or file, on a device, and how it denoises."""

    model: str
    settings: Settings
    device: str = "cpu"

    @property
    def name(self) -> str:
        steps = self.settings.times
        return f"{artifact.resolve(self.model).stem}, {steps} step{'s' * (steps > 1)}"

    @property
    def key(self) -> object:
        given = self.settings
        return [
            artifact.fingerprint(self.model), self.device, given.times, given.sampler.__module__,
            given.sampler.__qualname__, given.seed,
        ]  # fmt: skip

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        denoiser, given = _loaded(self.model, self.device), self.settings

        def work(noisy: Array, rate: int) -> Array:
            return denoise(
                denoiser, noisy, sample_rate=rate, steps=given.times, sampler=given.sampler,
                seed=given.seed,
            )  # fmt: skip

        return _timed(f"{self.name} {self.device}", work, sound)


def _noisereduce(noisy: Array, rate: int) -> Array:
    return np.asarray(import_module("noisereduce").reduce_noise(y=noisy, sr=rate))


def _wavelet(noisy: Array, _: int) -> Array:
    return soft_thresholds(noisy)


def _wiener(noisy: Array, _: int) -> Array:
    """The local Wiener filter of scipy (Lim 1990), channel by channel."""
    # Where all samples around one are equal, it divides nothing by nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        filtered = [scipy.signal.wiener(x.astype(np.float64), WIENER) for x in noisy]
    return np.nan_to_num(np.stack(filtered))


_EXTRA = "signal-diffusion[evaluate]"
#: Filters by name, and the package and extra that they need.
FILTERS: Mapping[str, tuple[Callable[[Array, int], Array], tuple[str, str] | None]] = {
    "noisereduce": (_noisereduce, ("noisereduce", _EXTRA)),
    "wavelet": (_wavelet, ("pywt", _EXTRA)),
    "wiener": (_wiener, None),
}


@dataclass(frozen=True)
class Filter:
    """One of `FILTERS`."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in FILTERS:
            raise InputError(
                f"against is '{self.name}'; choose among {', '.join(FILTERS)}, or use "
                "--against-command or --against-folder"
            )
        require_package(self.name, FILTERS[self.name][1])

    @property
    def key(self) -> object:
        return ["filter", self.name]

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        return _timed(self.name, FILTERS[self.name][0], sound)


def _timed(name: str, work: Callable[[Array, int], Array], sound: Sound) -> Estimate:
    """An estimate and the seconds that it took, loading and first-time work apart."""
    _warm(name, work, sound.sample_rate)
    began = time.perf_counter()
    samples = work(sound.noisy, sound.sample_rate)
    return Estimate(samples, time.perf_counter() - began)


_warmed: set[tuple[str, int]] = set()


def _warm(name: str, work: Callable[[Array, int], Array], rate: int) -> None:
    """Let a method do, once in each process, what it does the first time only."""
    if (name, rate) not in _warmed:
        noise = np.random.default_rng(0).standard_normal((1, rate)).astype(np.float32)
        work(0.1 * noise, rate)
        _warmed.add((name, rate))


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> NetworkDenoiser:
    return NetworkDenoiser.from_pretrained(model).to(device)
