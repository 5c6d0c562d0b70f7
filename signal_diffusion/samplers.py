"""Samplers: functions over one update, for synthesis and for paired processes alike.

    x_s = r x_t + (alpha_s - r alpha_t) x_hat + (beta_s - r beta_t) y
          + sqrt(sigma_s^2 - r^2 sigma_t^2) z

takes a process from t to s < t. Every 0 <= r <= sigma_s / sigma_t keeps the marginals; a sampler
chooses r and, for a higher order, refines x_hat. Where sigma_t = 0, r = 0. A sampler is written as
`function(walk, x)` under `@sampler(stages=...)` and called as `ddim(denoiser, x, times, ...)` with

- denoiser, x: (B, C, L) the state at times[0] (see `initial_state`), times: N falling times > 0;
- y: (B, C, L) the observation, and cond: the conditioner, both passed to the denoiser;
- noise: `noise(call, start, length)` -> (B, C, length), needed where fresh noise enters: call k for
  the k-th update (call 0 is the initial state); start: the position of the state's first sample;
- progress: called as `progress(done, total)` after every call of the denoiser;

and returns the last x_hat, so that no sampler reaches sigma = 0: N - 1 updates, of `stages` calls
of the denoiser each, and one call more. InputError is raised for times that do not fall from at
most 1 to above 0, and where y or noise is needed but missing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import update_wrapper
from importlib import import_module
from itertools import pairwise
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.schedules import Schedule

NoiseSource = Callable[[int, int, int], Tensor]
Progress = Callable[[int, int], None]


def update(
    schedule: Schedule,
    x_t: Tensor,
    x_hat: Tensor,
    t: Tensor,
    s: Tensor,
    *,
    y: Tensor | None = None,
    r: Tensor | float,
    z: Tensor | None = None,
) -> Tensor:
    """The state at s from the state at t, by the one update above; without z, no fresh noise."""
    alpha_t, beta_t, sigma_t = schedule(t)
    alpha_s, beta_s, sigma_s = schedule(s)
    x_s = r * x_t + (alpha_s - r * alpha_t) * x_hat
    if y is not None:
        x_s = x_s + (beta_s - r * beta_t) * y
    if z is not None:
        x_s = x_s + (sigma_s**2 - (r * sigma_t) ** 2).clamp(min=0).sqrt() * z
    return x_s


def initial_state(
    schedule: Schedule,
    t: Tensor,
    *,
    y: Tensor | None = None,
    noise: NoiseSource,
    start: int,
    length: int,
    sigma_data: float = 1.0,
) -> Tensor:
    """A state (B, C, length) to start from at time t, drawn by call 0 of the noise.

    Unpaired, sqrt(alpha^2 sigma_data^2 + sigma^2) z; paired, (alpha + beta) y + sigma z, where y
    stands in for x_0: exactly y at the end of the bridge. It lies where y does, unpaired where the
    noise does (the CPU).
    """
    alpha, beta, sigma = schedule(t)
    if not schedule.paired:
        return ((alpha * sigma_data) ** 2 + sigma**2).sqrt() * noise(0, start, length)
    if y is None:
        raise InputError("y is missing: a paired schedule starts from an observation, pass y=...")
    return (alpha + beta) * y + (sigma * noise(0, start, length).to(y) if sigma > 0 else 0)


@dataclass
class Walk:
    """One run of a sampler from time to time: what a sampler's function is written in.

    Iterating gives (k, t, s) for the k-th update, from t to s.
    """

    denoiser: Denoiser
    times: Tensor
    y: Tensor | None = None
    cond: Tensor | None = None
    noise: NoiseSource | None = None
    start: int = 0
    progress: Progress | None = None
    stages: int = 1
    done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.times = self.times.detach().cpu().double()
        if self.times.ndim != 1 or not len(self.times):
            raise InputError(f"times has the shape {tuple(self.times.shape)}; pass N times, N > 0")
        if self.times[0] > 1 or self.times[-1] <= 0 or (self.times.diff() >= 0).any():
            raise InputError("times must fall, from 1 at most to above 0; see power_grid")
        if self.y is None and self.denoiser.schedule.paired:
            raise InputError("y is missing: a paired schedule needs the observation, pass y=...")
        refined = sum(bool(self.gap(t, s).isfinite()) for _, t, s in self)
        self.total = len(self.times) + (self.stages - 1) * refined

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        pairs = pairwise(self.times)
        return ((call, t, s) for call, (t, s) in enumerate(pairs, start=1))

    @property
    def last(self) -> Tensor:
        """The last time, of the last estimate."""
        return self.times[-1]

    def gap(self, t: Tensor, s: Tensor) -> Tensor:
        """The log-SNR gained from t to s."""
        return self.denoiser.schedule.log_snr(s) - self.denoiser.schedule.log_snr(t)

    def estimate(self, x: Tensor, t: Tensor) -> Tensor:
        """x_hat of the state x at t: one call of the denoiser."""
        x_hat = self.denoiser(x, t.to(x), self.y, self.cond)
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)
        return x_hat

    def step(
        self, x: Tensor, x_hat: Tensor, t: Tensor, s: Tensor, *, call: int, fresh: float = 0.0
    ) -> Tensor:
        """The update from t to s, with the share `fresh` of the noise's variance drawn anew.

        r = sigma_s / sigma_t sqrt(1 - fresh)
        """
        schedule = self.denoiser.schedule
        sigma_t, sigma_s = schedule(t)[2], schedule(s)[2]
        if sigma_t == 0 or fresh == 1:
            return update(schedule, x, x_hat, t, s, y=self.y, r=0.0, z=self._draw(x, call))
        r = (1 - fresh) ** 0.5 * sigma_s / sigma_t
        z = self._draw(x, call) if fresh > 0 else None
        return update(schedule, x, x_hat, t, s, y=self.y, r=r, z=z)

    def _draw(self, x: Tensor, call: int) -> Tensor:
        if self.noise is None:
            raise InputError("noise is missing: this step draws some, pass noise=Noise(seed, ...)")
        return self.noise(call, self.start, x.shape[-1]).to(x)


class Sampler(Protocol):
    """A sampler: `stages` calls of the denoiser for each update, and one for the last estimate."""

    __name__: str
    stages: int

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        times: Tensor,
        *,
        y: Tensor | None = None,
        cond: Tensor | None = None,
        noise: NoiseSource | None = None,
        start: int = 0,
        progress: Progress | None = None,
        **options: float,
    ) -> Tensor:
        """The last x_hat (B, C, L)."""


def sampler(*, stages: int = 1) -> Callable[[Callable[..., Tensor]], Sampler]:
    """Makes a sampler out of a function `(walk, x, *, options) -> x_hat` over a `Walk`.

    Args:
        stages: calls of the denoiser for each update, at most.

    >>> @sampler()
    ... def renoise(walk: Walk, x: Tensor) -> Tensor:
    ...     for call, t, s in walk:
    ...         x = walk.step(x, walk.estimate(x, t), t, s, call=call, fresh=1.0)
    ...     return walk.estimate(x, walk.last)
    >>> list(inspect.signature(renoise).parameters)[:4]
    ['denoiser', 'x', 'times', 'y']
    """

    def declared(function: Callable[..., Tensor]) -> Sampler:
        common = list(inspect.signature(Sampler.__call__).parameters.values())[1:-1]
        options = list(inspect.signature(function).parameters.values())[2:]

        @torch.no_grad()
        def run(denoiser: Denoiser, x: Tensor, times: Tensor, **given: Any) -> Tensor:
            own = {one.name: given.pop(one.name) for one in options if one.name in given}
            return function(Walk(denoiser, times, stages=stages, **given), x, **own)

        made = cast(Any, update_wrapper(run, function))
        made.__signature__ = inspect.Signature([*common, *options], return_annotation="Tensor")
        made.stages = stages
        return cast(Sampler, made)

    return declared


@sampler()
def ddim(walk: Walk, x: Tensor, *, eta: float = 0.0) -> Tensor:
    """DDIM: from the probability-flow ODE (eta = 0, Euler in sigma/alpha) to DDPM (eta = 1).

        r = sigma_s / sigma_t sqrt(1 - eta^2 (1 - (alpha_t sigma_s / (alpha_s sigma_t))^2))

    Song et al. 2021, arXiv:2010.02502.

    >>> from signal_diffusion.gaussian import GaussianDenoiser
    >>> from signal_diffusion.schedules import EDM, log_snr_grid
    >>> oracle = GaussianDenoiser(EDM(), variance=torch.full((5,), 0.25))
    >>> x = torch.full((1, 1, 8), 80.0)   # one standard deviation of the start
    >>> ddim(oracle, x, log_snr_grid(EDM(), 200))[0, 0, 0]   # one of the signal: 0.5
    tensor(0.49)
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta is {eta}; it goes from 0 (no fresh noise) to 1 (DDPM)")
    return _ancestral(walk, x, eta)


@sampler()
def ddpm(walk: Walk, x: Tensor) -> Tensor:
    """Ancestral sampling: every step draws from the exact posterior of x_s given x_t, x_hat and y.

        r = alpha_t sigma_s^2 / (alpha_s sigma_t^2)

    On the Brownian bridge r = s / t, the bridge's own SDE. Ho et al. 2020, arXiv:2006.11239.
    """
    return _ancestral(walk, x, eta=1.0)


def _ancestral(walk: Walk, x: Tensor, eta: float) -> Tensor:
    for call, t, s in walk:
        share = -(eta**2) * torch.expm1(-2 * walk.gap(t, s))
        x = walk.step(x, walk.estimate(x, t), t, s, call=call, fresh=float(share))
    return walk.estimate(x, walk.last)


@sampler(stages=2)
def heun(walk: Walk, x: Tensor) -> Tensor:
    """Heun's second-order method for the probability-flow ODE in sigma/alpha.

    Averaging the two slopes equals the DDIM step with x_hat + e^h / 2 (x_hat' - x_hat), where
    x_hat' is the estimate at s after a plain step and h the log-SNR gained. From where the log-SNR
    is infinite the step stays plain. Karras et al. 2022, arXiv:2206.00364.
    """
    for call, t, s in walk:
        x_hat, h = walk.estimate(x, t), walk.gap(t, s)
        x_s = walk.step(x, x_hat, t, s, call=call)
        if h.isfinite():
            slope = walk.estimate(x_s, s) - x_hat
            x_s = walk.step(x, x_hat + h.exp() / 2 * slope, t, s, call=call)
        x = x_s
    return walk.estimate(x, walk.last)


@sampler()
def dpmpp_2m(walk: Walk, x: Tensor) -> Tensor:
    """DPM-Solver++(2M): second order at one call a step, by memory of the last estimate.

    The DDIM step with x_hat + h / (2 h_last) (x_hat - x_hat_last), h the log-SNR gained by a step.
    Lu et al. 2022, arXiv:2211.01095.
    """
    last: tuple[Tensor, Tensor] | None = None
    for call, t, s in walk:
        x_hat, h = walk.estimate(x, t), walk.gap(t, s)
        ahead = x_hat if last is None else x_hat + h / (2 * last[1]) * (x_hat - last[0])
        x, last = walk.step(x, ahead, t, s, call=call), (x_hat, h)
    return walk.estimate(x, walk.last)


@sampler()
def few_step(walk: Walk, x: Tensor) -> Tensor:
    """Re-noises every estimate from scratch, r = 0.

    Meant for networks trained for it: with many steps the variance stays too small. Song et al.
    2023, arXiv:2303.01469 (multistep consistency sampling).
    """
    for call, t, s in walk:
        x = walk.step(x, walk.estimate(x, t), t, s, call=call, fresh=1.0)
    return walk.estimate(x, walk.last)


#: The samplers of this package, by name.
SAMPLERS: dict[str, Sampler] = {
    made.__name__: made for made in (ddim, ddpm, heun, dpmpp_2m, few_step)
}


def network_calls(
    sampler: Callable[..., Tensor], steps: int, schedule: Schedule | None = None
) -> int | None:
    """Calls of the denoiser that a sampler makes on a grid of `steps` times.

    The most that are possible; with a schedule, the calls on its `power_grid`, whose first step has
    one stage where the schedule starts exactly at y.

    Args:
        sampler: a function of this module, made by `sampler`, or with an attribute `stages`.
        steps: times of the grid, N.
        schedule: the process.

    Returns:
        N + (stages - 1) (N - 1), or None for a function that states no stages.

    >>> network_calls(heun, 3), network_calls(print, 3)
    (5, None)
    """
    stages: int | None = getattr(sampler, "stages", None)
    if stages is None:
        return None
    certain = schedule is not None and bool(schedule(torch.tensor(schedule.t_start))[2] == 0)
    return steps + (stages - 1) * max(0, steps - 1 - certain)


def sampler_named(name: str | Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The sampler of a name or of the path of a function; a function is the sampler itself.

    Raises:
        InputError: there is no such function, or it is no sampler.
    """
    if callable(name):
        return name
    if not isinstance(name, str):
        raise InputError(f"sampler is {name!r}; pass a function, e.g. samplers.ddim, or its name")
    if name in SAMPLERS:
        return SAMPLERS[name]
    module, _, function = name.rpartition(".")
    if not module:
        allowed = f"{', '.join(SAMPLERS)}, or the path of your own: package.module.function"
        raise InputError(f"sampler is '{name}'; choose one of {allowed}")
    try:
        found: Callable[..., Tensor] = getattr(import_module(module), function)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"sampler is '{name}', which can't be imported: {error}") from error
    if not callable(found) or _first_parameters(found) != FIRST:
        raise InputError(
            f"sampler is '{name}', which is no sampler: it must be a function whose first "
            f"parameters are {', '.join(FIRST)}"
        )
    return found


#: The first parameters of every sampler.
FIRST = ("denoiser", "x", "times")


def _first_parameters(function: Callable[..., Tensor]) -> tuple[str, ...]:
    # Not every function that is written in C has a signature.
    with suppress(TypeError, ValueError):
        return tuple(inspect.signature(function).parameters)[: len(FIRST)]
    return ()
