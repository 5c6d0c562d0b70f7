r"""The marginals of every process, as one callable `t -> (alpha, beta, sigma)`.

    x_t = alpha(t) x_0 + beta(t) y + sigma(t) z,        z ~ N(0, I)

Time runs from 0 (clean) to 1 (noisiest). `y` is the recording that x_0 is paired with; where there
is none, beta = 0. A schedule of your own is one subclass with one formula: the inverse `time_at`,
the grids, the targets and the samplers follow from it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from signal_diffusion.errors import InputError

Marginal = tuple[Tensor, Tensor, Tensor]


class Schedule(ABC):
    """The marginal of a process; subclasses are frozen dataclasses of plain numbers.

    Between `t_min` and `t_max` alpha and sigma are both positive. `t_start` is where a grid may
    begin: later than `t_max` only where the process starts exactly at y. `paired` ones need a y.
    """

    t_min: ClassVar[float] = 1e-3
    t_max: ClassVar[float] = 1.0
    t_start: ClassVar[float] = 1.0
    paired: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, t: Tensor) -> Marginal:
        """alpha, beta and sigma at the times t, each shaped like t."""

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha / sigma), which falls as t grows."""
        alpha, _, sigma = self(t)
        return alpha.log() - sigma.log()

    def time_at(self, log_snr: Tensor) -> Tensor:
        """The time whose log-SNR is the given one, by bisection; 0 or 1 if out of reach."""
        target = log_snr.detach().cpu().double()
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(60):
            middle = (low + high) / 2
            too_clean = self.log_snr(middle) > target
            low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
        return high.to(log_snr)


def _preserving(integral: Tensor) -> Marginal:
    """The variance-preserving marginal alpha^2 = exp(-integral), alpha^2 + sigma^2 = 1."""
    alpha, sigma = (-integral / 2).exp(), (-torch.expm1(-integral)).sqrt()
    return alpha, torch.zeros_like(alpha), sigma


@dataclass(frozen=True)
class VariancePreserving(Schedule):
    """Variance-preserving diffusion with a linear rate beta(t) from `beta_min` to `beta_max`.

        alpha = exp(-1/2 int_0^t beta),  sigma = sqrt(1 - alpha^2)

    Song et al. 2021, arXiv:2011.13456.

    >>> VariancePreserving().log_snr(torch.tensor(1.0))
    tensor(-5.0250)
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __call__(self, t: Tensor) -> Marginal:
        return _preserving(t * (self.beta_min + t * (self.beta_max - self.beta_min) / 2))


@dataclass(frozen=True)
class DiscreteVariancePreserving(Schedule):
    """The `steps` steps of DDPM and DiffWave, with beta_n linear from `beta_start` to `beta_end`.

        alpha(n / steps)^2 = prod_{m <= n} (1 - beta_m),  sigma = sqrt(1 - alpha^2)

    The times n / steps are the published table; between them alpha is linear, as DiffWave's fast
    sampling has it, and t = 0 is exactly clean. Ho et al. 2020, arXiv:2006.11239; Kong et al. 2021,
    arXiv:2009.09761.

    >>> schedule = DiscreteVariancePreserving()
    >>> times = torch.arange(schedule.steps, 0, -1) / schedule.steps   # the published grid
    >>> schedule(times[-1])[0] ** 2
    tensor(0.9999)
    """

    beta_start: float = 1e-4
    beta_end: float = 0.05
    steps: int = 50

    def __call__(self, t: Tensor) -> Marginal:
        lost = _interpolate(t, *self._table(t))
        # sigma by what alpha lacks to 1, which float32 holds where it is little.
        return 1 - lost, torch.zeros_like(lost), (lost * (2 - lost)).sqrt()

    def _table(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Times, and 1 - alpha at them."""
        betas = torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)
        integrals = torch.cat([betas.new_zeros(1), -torch.log1p(-betas).cumsum(0)])
        times = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        return times.to(like), -torch.expm1(-integrals / 2).to(like)


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """The piecewise linear function through (knots, values) at x, its end pieces extended."""
    right = torch.searchsorted(knots, x.detach().contiguous()).clamp(1, len(knots) - 1)
    left = right - 1
    slope = (values[right] - values[left]) / (knots[right] - knots[left])
    return values[left] + slope * (x - knots[left])


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2).

    Nichol and Dhariwal 2021, arXiv:2102.09672, in the continuous form of Salimans and Ho 2022,
    arXiv:2202.00512.
    """

    t_max: ClassVar[float] = 0.999
    t_start: ClassVar[float] = 0.999

    def __call__(self, t: Tensor) -> Marginal:
        angle = t * (math.pi / 2)
        return angle.cos(), torch.zeros_like(angle), angle.sin()


@dataclass(frozen=True)
class VarianceExploding(Schedule):
    """alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t.

    Song et al. 2021, arXiv:2011.13456.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __call__(self, t: Tensor) -> Marginal:
        sigma = self.sigma_min * (t * math.log(self.sigma_max / self.sigma_min)).exp()
        return torch.ones_like(sigma), torch.zeros_like(sigma), sigma


@dataclass(frozen=True)
class EDM(Schedule):
    """alpha = 1, sigma^(1/rho) linear in t from `sigma_min` to `sigma_max`.

    Equal steps of t are the published grid. Karras et al. 2022, arXiv:2206.00364.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def _roots(self) -> tuple[float, float]:
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)

    def __call__(self, t: Tensor) -> Marginal:
        low, high = self._roots()
        sigma = (low + t * (high - low)) ** self.rho
        return torch.ones_like(sigma), torch.zeros_like(sigma), sigma


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """alpha = 1 - t, sigma = t. Liu et al. 2023, arXiv:2209.03003."""

    t_max: ClassVar[float] = 0.999
    t_start: ClassVar[float] = 0.999

    def __call__(self, t: Tensor) -> Marginal:
        return 1 - t, torch.zeros_like(t), t


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Schedule):
    """The mean-reverting process dx = gamma (y - x) dt + g(t) dw, which ends near y.

        g = sigma_min R^t sqrt(2 log R),  R = sigma_max / sigma_min
        alpha = exp(-gamma t),  beta = 1 - alpha
        sigma^2 = sigma_min^2 log R / (gamma + log R) (R^(2t) - alpha^2)

    At t = 1 a share alpha of x_0 is left, which a start at y + sigma z ignores.
    Richter et al. 2023, arXiv:2208.05830.
    """

    gamma: float = 1.5
    sigma_min: float = 0.05
    sigma_max: float = 0.5
    paired: ClassVar[bool] = True

    def _constants(self) -> tuple[float, float]:
        ratio = math.log(self.sigma_max / self.sigma_min)
        return self.gamma + ratio, self.sigma_min * math.sqrt(ratio / (self.gamma + ratio))

    def __call__(self, t: Tensor) -> Marginal:
        rate, scale = self._constants()
        alpha = (-self.gamma * t).exp()
        sigma = scale * alpha * torch.expm1(2 * rate * t).sqrt()
        return alpha, -torch.expm1(-self.gamma * t), sigma


@dataclass(frozen=True)
class BrownianBridge(Schedule):
    """The bridge that ends exactly at y: alpha = 1 - t, beta = t, sigma = scale sqrt(t (1 - t)).

    At t = 1 the state is y itself, so that one call of the network is already a denoiser.
    Li et al. 2023, arXiv:2205.07680.

    >>> alpha, beta, sigma = BrownianBridge()(torch.tensor(1.0))
    >>> (float(alpha), float(beta), float(sigma))
    (0.0, 1.0, 0.0)
    """

    scale: float = 1.0
    t_max: ClassVar[float] = 0.999
    paired: ClassVar[bool] = True

    def __call__(self, t: Tensor) -> Marginal:
        return 1 - t, t, self.scale * (t * (1 - t)).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """1/2 log((1 - t) / t) - log(scale): -infinity at t = 1, where alpha and sigma are 0."""
        return torch.logit(1 - t) / 2 - math.log(self.scale)


def log_snr_grid(
    schedule: Schedule, steps: int, *, first: float | None = None, last: float | None = None
) -> Tensor:
    """`steps` falling times, equally spaced in log-SNR from `first` (t_max) to `last` (t_min).

    One step gives `first` alone. float64.

    >>> log_snr_grid(EDM(), 3, first=0.95, last=0.05)
    tensor([0.9500, 0.3576, 0.0500], dtype=torch.float64)
    """
    _require_steps(steps)
    first = schedule.t_max if first is None else first
    last = schedule.t_min if last is None else last
    if not 0 < last < first <= 1:
        raise InputError(f"first={first}, last={last}: a grid falls, 0 < last < first <= 1")
    high, low = schedule.log_snr(torch.tensor([last, first], dtype=torch.float64)).tolist()
    if not math.isfinite(low):
        raise InputError(f"first={first} has no finite log-SNR; use {schedule.t_max} or less")
    levels = torch.linspace(low, high, steps, dtype=torch.float64)
    return schedule.time_at(levels).clamp(last, first)


def power_grid(schedule: Schedule, steps: int, *, power: float = 2.0) -> Tensor:
    """`steps` falling times t = t_start u^power with u = 1, 1 - 1/steps, ..., 1/steps. float64.

    A power of 2 suits processes whose sigma goes like sqrt(t): the bridge and variance-preserving.

    >>> power_grid(BrownianBridge(), 4)
    tensor([1.0000, 0.5625, 0.2500, 0.0625], dtype=torch.float64)
    """
    _require_steps(steps)
    return schedule.t_start * (torch.arange(steps, 0, -1, dtype=torch.float64) / steps) ** power


def _require_steps(steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps is {steps!r}; it must be a whole number, 1 or more")
