"""How to denoise, whatever the recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real

from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.errors import InputError

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
        sampler: a function of `samplers`, or one of the same form.
        seed: of the fresh noise, where there is some.
        noise_std: standard deviation of the recording's white Gaussian noise, in its own units: for
            unpaired processes, and for them alone.
        shots: samples of the posterior that are drawn and averaged.
        band: "full" keeps what lies above the denoiser's band, turned down as its own highest
            octave was; "model" drops it.
        strength: from 0, the recording as it came, to 1, the estimate.
        level: of the recording's loud frames (see `levels.level_db`) in dB of full scale; None
            means that it is measured.
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
    level: float | None = None
    piece: float | None = None

    def __post_init__(self) -> None:
        require_whole("steps", self.steps, least=1)
        require_whole("seed", self.seed, least=0)
        require_whole("shots", self.shots, least=1)
        if self.band not in BANDS:
            raise InputError(f"band is '{self.band}': choose one of {', '.join(BANDS)}")
        if not callable(self.sampler):
            raise InputError(f"sampler is {self.sampler!r}; pass a function, e.g. samplers.ddim")
        for name in ("strength", "level", "piece", "noise_std"):
            require_number(name, getattr(self, name))
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength is {self.strength}; it goes from 0 (as it came) to 1")
        if self.piece is not None and not 0 < self.piece <= LONGEST:
            raise InputError(f"piece is {self.piece} s; it goes up to {LONGEST:g}, above 0")
        if self.level is not None and not -200 <= self.level <= 200:
            raise InputError(f"level is {self.level} dB of full scale; it goes from -200 to 200")
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
