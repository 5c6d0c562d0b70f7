"""Methods that are compared: the input itself, a model, and filters; see `external`, too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.baselines import FILTERS
from signal_diffusion.evaluation.measures import require_package
from signal_diffusion.evaluation.pairs import Pair, Sound
from signal_diffusion.files import artifact
from signal_diffusion.nn.mel import Mel
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.vocode import ITERATIONS, by_librosa, resynthesised

#: Samples of what methods are warmed up with, at the least.
LEAST = 1024


@dataclass(frozen=True)
class Estimate:
    """The estimate of a recording by a method.

    Attributes:
        samples: (C, L).
        taken: seconds of a processor, or of a GPU; None where the work was done elsewhere.
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
    """A model of this package: its name or file, on a device, and how it denoises, or vocodes.

    The label is the name of its row; without one that is the model's name and number of steps.
    """

    model: str
    settings: Settings
    device: str = "cpu"
    label: str = ""

    @property
    def name(self) -> str:
        if self.label:
            return self.label
        steps = self.settings.times
        return f"{artifact.resolve(self.model).stem}, {steps} step{'s' * (steps > 1)}"

    @property
    def key(self) -> object:
        given = self.settings
        return [
            artifact.fingerprint(self.model),
            self.device,
            given.times,
            given.sampler.__module__,
            given.sampler.__qualname__,
            given.seed,
            given.noise_std,
        ]

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        denoiser, given = loaded(self.model, self.device), self.settings

        def work(noisy: Array, rate: float) -> Array:
            if denoiser.kind == "vocoder":
                return resynthesised(denoiser, noisy, given)
            # What warms it up has no gaps.
            missing = sound.missing if noisy is sound.noisy else None
            return denoise(
                denoiser,
                noisy,
                sample_rate=rate,
                steps=given.times,
                sampler=given.sampler,
                seed=given.seed,
                noise_std=given.noise_std,
                missing=missing,
            )

        # A processor waits while a GPU works.
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        return timed(f"{self.name} {self.device}", work, sound, clock=clock)


@dataclass(frozen=True)
class GriffinLim:
    """The algorithm of Griffin and Lim, by `librosa`, on the mel frames that a vocoder takes."""

    mel: Mel
    name: str = "griffin_lim"

    @property
    def key(self) -> object:
        return ["griffin_lim", ITERATIONS, asdict(self.mel)]

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        return timed(self.name, lambda x, _: by_librosa(x, self.mel), sound)


@dataclass(frozen=True)
class Filter:
    """One of `baselines.FILTERS`."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in FILTERS:
            raise InputError(
                f"against is '{self.name}'; choose among {', '.join(FILTERS)}, or use "
                "--against-command or --against-folder"
            )
        require_package(self.name, FILTERS[self.name].needs)

    @property
    def key(self) -> object:
        return ["filter", self.name]

    def __call__(self, pair: Pair, sound: Sound) -> Estimate:
        built = FILTERS[self.name]
        return timed(self.name, built.work, sound, ready=built.ready)


def timed(
    name: str,
    work: Callable[[Array, float], Array],
    sound: Sound,
    *,
    ready: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.process_time,
) -> Estimate:
    """An estimate and the seconds that it took, loading and first-time work apart.

    Seconds of the processor, so that what else runs on the machine doesn't count.
    """
    _warm(name, work, sound.sample_rate)
    if ready is not None:
        ready(len(sound.noisy))
    began = clock()
    samples = work(sound.noisy, sound.sample_rate)
    return Estimate(samples, clock() - began)


_warmed: set[tuple[str, float]] = set()


def _warm(name: str, work: Callable[[Array, float], Array], rate: float) -> None:
    """Call a method once in each process, since the first call takes longer."""
    if (name, rate) not in _warmed:
        length = max(round(rate), LEAST)
        noise = np.random.default_rng(0).standard_normal((1, length)).astype(np.float32)
        work(0.1 * noise, rate)
        _warmed.add((name, rate))


@lru_cache(maxsize=1)
def loaded(model: str, device: str) -> NetworkDenoiser:
    return NetworkDenoiser.from_pretrained(model).to(device)
