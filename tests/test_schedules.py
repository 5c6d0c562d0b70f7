"""The marginals: inverses, published tables, and the equations that they must solve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from signal_diffusion.errors import InputError
from signal_diffusion.schedules import (
    EDM,
    BrownianBridge,
    Cosine,
    DiscreteVariancePreserving,
    OrnsteinUhlenbeck,
    RectifiedFlow,
    Schedule,
    VarianceExploding,
    VariancePreserving,
    log_snr_grid,
    power_grid,
)


@dataclass(frozen=True)
class Quadratic(Schedule):
    """A schedule of the user's own: one formula."""

    def __call__(self, t):
        return 1 - t**2, torch.zeros_like(t), t


EVERY = [
    VariancePreserving(),
    DiscreteVariancePreserving(),
    Cosine(),
    VarianceExploding(),
    EDM(),
    RectifiedFlow(),
    OrnsteinUhlenbeck(),
    BrownianBridge(scale=0.7),
]
INTERIOR = torch.linspace(1e-3, 0.999, 401, dtype=torch.float64)
every = pytest.mark.parametrize("schedule", [*EVERY, Quadratic()], ids=lambda s: type(s).__name__)


def derivative(function, t):
    return torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]


@every
def test_log_snr_falls(schedule):
    assert (schedule.log_snr(INTERIOR).diff() < 0).all()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_time_at_inverts_log_snr(schedule, dtype):
    t = INTERIOR.to(dtype)
    found = schedule.time_at(schedule.log_snr(t))
    assert found.dtype == dtype
    torch.testing.assert_close(found, t, rtol=1e-9 if dtype == torch.float64 else 1e-4, atol=0)


@every
def test_time_at_stops_at_the_ends(schedule):
    ends = schedule.time_at(torch.tensor([1e4, -1e4], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0]).double(), atol=1e-15, rtol=0)


@every
def test_shape_and_dtype_follow_the_time(schedule):
    for t in (torch.tensor(0.5), torch.full((3, 1, 1), 0.5, dtype=torch.float64)):
        assert all(c.shape == t.shape and c.dtype == t.dtype for c in schedule(t))


@every
def test_only_paired_schedules_move_y(schedule):
    assert bool((schedule(INTERIOR)[1] != 0).any()) == schedule.paired


@pytest.mark.parametrize("schedule", [VariancePreserving(), Cosine(), DiscreteVariancePreserving()])
def test_variance_is_preserved(schedule):
    alpha, _, sigma = schedule(INTERIOR)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(INTERIOR))


def test_variance_preserving_solves_its_equation():
    schedule = VariancePreserving(beta_min=0.2, beta_max=15.0)
    alpha, _, sigma = schedule(INTERIOR)
    rate = 0.2 + INTERIOR * 14.8
    torch.testing.assert_close(derivative(lambda t: schedule(t)[0], INTERIOR), -rate * alpha / 2)
    torch.testing.assert_close(
        derivative(lambda t: schedule(t)[2] ** 2, INTERIOR), rate * (1 - sigma**2)
    )


@pytest.mark.parametrize(
    "schedule", [DiscreteVariancePreserving(), DiscreteVariancePreserving(1e-4, 0.02, 1000)]
)
def test_discrete_steps_are_the_cumulative_product(schedule):
    betas = np.linspace(schedule.beta_start, schedule.beta_end, schedule.steps)
    kept = np.cumprod(1 - betas)
    t = torch.arange(1, schedule.steps + 1, dtype=torch.float64) / schedule.steps
    alpha, _, sigma = schedule(t)
    np.testing.assert_allclose(alpha, np.sqrt(kept), rtol=1e-13)
    np.testing.assert_allclose(sigma, np.sqrt(1 - kept), rtol=1e-10)
    assert [float(c) for c in schedule(torch.tensor(0.0))] == [1.0, 0.0, 0.0]


def test_edm_grid_is_the_published_one():
    n = np.arange(18)
    sigmas = (80 ** (1 / 7) + n / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    t = torch.linspace(1, 0, 18, dtype=torch.float64)
    np.testing.assert_allclose(EDM()(t)[2], sigmas, rtol=1e-10)


def test_variance_exploding_ends():
    sigma = VarianceExploding(0.02, 30.0)(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))[2]
    np.testing.assert_allclose(sigma, [0.02, math.sqrt(0.02 * 30), 30.0])


def test_ornstein_uhlenbeck_solves_its_equation():
    schedule = OrnsteinUhlenbeck(gamma=1.2, sigma_min=0.04, sigma_max=0.6)
    alpha, beta, sigma = schedule(INTERIOR)
    diffusion = 0.04 * 15**INTERIOR * math.sqrt(2 * math.log(15))
    drift = -2 * 1.2 * sigma**2
    torch.testing.assert_close(
        derivative(lambda t: schedule(t)[2] ** 2, INTERIOR), drift + diffusion**2
    )
    torch.testing.assert_close(derivative(lambda t: schedule(t)[1], INTERIOR), 1.2 * (1 - beta))
    torch.testing.assert_close(alpha + beta, torch.ones_like(alpha))
    assert float(schedule(torch.tensor(0.0))[2]) == 0


def test_brownian_bridge_is_brownian_motion_tied_at_both_ends():
    """cov(x_s, x_t) = scale^2 s (1 - t), hence x_s given x_t and x_0 has r = s / t."""
    schedule, t, s = BrownianBridge(scale=0.7), torch.tensor(0.8), torch.tensor(0.3)
    sigma_t, sigma_s = schedule(t)[2], schedule(s)[2]
    ratio = 0.7**2 * s * (1 - t) / sigma_t**2
    torch.testing.assert_close(ratio, s / t)
    torch.testing.assert_close(sigma_s**2 - ratio**2 * sigma_t**2, 0.7**2 * s * (t - s) / t)


def test_bridge_ends_exactly_at_y():
    ends = torch.tensor([0.0, 1.0])
    alpha, beta, sigma = BrownianBridge()(ends)
    assert alpha.tolist() == [1, 0] and beta.tolist() == [0, 1] and sigma.tolist() == [0, 0]
    assert BrownianBridge().log_snr(ends).tolist() == [math.inf, -math.inf]


@every
def test_log_snr_grid_is_even_in_log_snr(schedule):
    times = log_snr_grid(schedule, 9, first=0.95, last=0.05)
    assert times[[0, -1]].tolist() == pytest.approx([0.95, 0.05]) and times.dtype == torch.float64
    gaps = schedule.log_snr(times).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand(8), rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", EVERY, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("grid", [log_snr_grid, power_grid])
def test_grids_fall_from_the_start_to_above_zero(schedule, grid):
    times = grid(schedule, 50)
    assert len(times) == 50 and (times.diff() < 0).all() and times[-1] > 0
    first = schedule.t_start if grid is power_grid else schedule.t_max
    assert times[0] == first and grid(schedule, 1).tolist() == [first]


def test_power_grid_of_the_bridge_starts_at_y():
    torch.testing.assert_close(
        power_grid(BrownianBridge(), 4, power=1.0), torch.tensor([1, 0.75, 0.5, 0.25]).double()
    )


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
@pytest.mark.parametrize("grid", [log_snr_grid, power_grid])
def test_steps_must_count(grid, steps):
    with pytest.raises(InputError, match=r"steps is .* whole number"):
        grid(EDM(), steps)


@pytest.mark.parametrize(("first", "last"), [(0.1, 0.2), (1.2, 0.1), (0.5, 0.0), (0.0, 0.0)])
def test_grid_must_fall(first, last):
    with pytest.raises(InputError, match="a grid falls"):
        log_snr_grid(EDM(), 4, first=first, last=last)


def test_no_log_snr_grid_from_where_the_signal_is_gone():
    with pytest.raises(InputError, match=r"use 0\.999 or less"):
        log_snr_grid(BrownianBridge(), 4, first=1.0)
