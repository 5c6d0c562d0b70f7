"""The one update, the start, and what every sampler promises to its caller."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from inspect import Parameter, signature
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch

from signal_diffusion.cli.options import SAMPLER_NAMES
from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.gaussian import GaussianDenoiser
from signal_diffusion.noise import Noise
from signal_diffusion.samplers import (
    FIRST,
    SAMPLERS,
    Walk,
    ddim,
    ddpm,
    dpmpp_2m,
    few_step,
    heun,
    initial_state,
    network_calls,
    sampler,
    sampler_named,
    update,
)
from signal_diffusion.schedules import (
    EDM,
    BrownianBridge,
    Cosine,
    DiscreteVariancePreserving,
    OrnsteinUhlenbeck,
    RectifiedFlow,
    Schedule,
    VariancePreserving,
    log_snr_grid,
    power_grid,
)


@dataclass(frozen=True)
class Fading(Schedule):
    """A paired process whose level falls: alpha + beta is not 1."""

    paired: ClassVar[bool] = True

    def __call__(self, t):
        return 1 - t / 2, t / 4, t


EVERY = [ddim, ddpm, heun, dpmpp_2m, few_step]
SCHEDULES = [
    VariancePreserving(),
    DiscreteVariancePreserving(),
    Cosine(),
    EDM(),
    RectifiedFlow(),
    OrnsteinUhlenbeck(),
    BrownianBridge(0.7),
    Fading(),
]
BRIDGE = BrownianBridge()


class Counted(Denoiser):
    """Shrinks the state and y, pointwise, and remembers when it was asked."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.times = schedule, []

    def forward(self, x_t, t, y=None, cond=None):
        assert t.dtype == x_t.dtype and not torch.is_grad_enabled()
        self.times.append(float(t))
        return 0.3 * x_t + (0 if y is None else 0.5 * y) + (0 if cond is None else cond)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_every_r_keeps_the_marginals(schedule):
    """With x_hat = x_0, any r in its range takes the law at t to the law at s, N times over."""
    x_0, y, shares = 0.8, -1.7, np.random.default_rng(0).uniform(size=20)
    times = power_grid(schedule, 21)
    alpha, beta, sigma = schedule(times[0])
    mean, variance = alpha * x_0 + beta * y, sigma**2
    for share, (t, s) in zip(shares, pairwise(times), strict=True):
        sigma_t, sigma_s = schedule(t)[2], schedule(s)[2]
        r = share * sigma_s / sigma_t if sigma_t > 0 else torch.tensor(0.0)
        state, one = torch.as_tensor(mean), torch.tensor(1.0, dtype=torch.float64)
        estimate, given = x_0 * one, y * one
        moved = update(schedule, state, estimate, t, s, y=given, r=r)
        fresh = update(schedule, state, estimate, t, s, y=given, r=r, z=one) - moved
        mean, variance = moved, r**2 * variance + fresh**2
        alpha, beta, sigma = schedule(s)
        torch.testing.assert_close(mean, alpha * x_0 + beta * y)
        torch.testing.assert_close(variance, sigma**2)


def test_ancestral_steps_are_the_published_table():
    """Ho et al. 2020, equations 6 and 7, at the discrete steps."""
    schedule = DiscreteVariancePreserving()
    betas = np.linspace(1e-4, 0.05, 50)
    kept = np.cumprod(1 - betas)
    oracle = GaussianDenoiser(schedule, variance=torch.full((2,), 0.3).double())
    x, z = draw(2, 1, 1, 2).double()
    for n in (2, 25, 50):
        times = torch.tensor([n, n - 1], dtype=torch.float64) / 50
        x_hat = oracle(x, times[0])
        now, before, beta = kept[n - 1], kept[n - 2], betas[n - 1]
        mean = np.sqrt(before) * beta * x_hat + np.sqrt(1 - beta) * (1 - before) * x
        x_s = mean / (1 - now) + np.sqrt((1 - before) / (1 - now) * beta) * z
        torch.testing.assert_close(
            ddpm(oracle, x, times, noise=lambda *_: z), oracle(x_s, times[1])
        )


def test_ddim_on_the_flow_is_eulers_method():
    denoiser, times = Counted(RectifiedFlow()), power_grid(RectifiedFlow(), 9)
    x = state = draw(2, 1, 8).double()
    for t, s in pairwise(times):
        state = state + (s - t) * (state - 0.3 * state) / t
    torch.testing.assert_close(ddim(denoiser, x, times), 0.3 * state)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("t", [0.3, 0.9])
def test_the_start_has_the_spread_of_the_marginal(schedule, t):
    t, y, z = torch.tensor(t), draw(2, 1, 8), draw(2, 1, 8, seed=1)
    alpha, beta, sigma = schedule(t)
    x = initial_state(schedule, t, y=y, noise=lambda *_: z, start=0, length=8, sigma_data=0.4)
    unpaired = (alpha**2 * 0.16 + sigma**2).sqrt() * z
    torch.testing.assert_close(x, (alpha + beta) * y + sigma * z if schedule.paired else unpaired)


def test_the_bridge_starts_at_y_and_ignores_z():
    y, starts = draw(1, 1, 8), []
    for seed in (0, 1):
        noise = Noise(seed, rows=[(0, 0)], channels=1)
        starts.append(
            initial_state(BRIDGE, power_grid(BRIDGE, 4)[0], y=y, noise=noise, start=0, length=8)
        )
        assert torch.equal(starts[-1], y)
    one_call = [method(Counted(BRIDGE), y, torch.ones(1), y=y) for method in EVERY]
    assert all(torch.equal(x_hat, 0.3 * y + 0.5 * y) for x_hat in one_call)


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("schedule", [EDM(), BRIDGE])
def test_calls_progress_and_noise_are_counted(method, steps, schedule):
    denoiser, progress, calls = Counted(schedule), [], []
    y = draw(1, 1, 8) if schedule.paired else None

    def noise(call, start, length):
        calls.append((call, start, length))
        return torch.zeros(1, 1, 8)

    times = power_grid(schedule, steps)
    method(
        denoiser,
        draw(1, 1, 8),
        times,
        y=y,
        noise=noise,
        start=40,
        progress=lambda done, total: progress.append((done, total)),
    )
    stages = 2 if method is heun else 1
    # from the end of the bridge, where alpha = 0, Heun has no second stage
    total = stages * (steps - 1) + 1 - (stages == 2 and steps > 1 and schedule is BRIDGE)
    assert progress == [(done, total) for done in range(1, total + 1)]
    assert len(denoiser.times) == total
    assert sorted(set(denoiser.times), reverse=True) == pytest.approx(times.tolist())
    draws = steps - 1 if method in (ddpm, few_step) else min(steps - 1, int(schedule is BRIDGE))
    assert calls == [(call, 40, 8) for call in range(1, draws + 1)]


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("schedule", [EDM(), BRIDGE])
def test_cutting_and_batching_change_nothing(method, schedule):
    """For a pointwise denoiser, pieces and rows on their own give the whole, bit for bit."""
    times, rows = power_grid(schedule, 6), [(0, 0), (1, 0)]
    y = draw(2, 3, 100) if schedule.paired else None

    def run(batch, start, stop):
        noise = Noise(7, rows=[rows[b] for b in batch], channels=3)
        piece = None if y is None else y[batch, :, start:stop]
        given = {"y": piece, "noise": noise, "start": start}
        x = initial_state(schedule, times[0], length=stop - start, **given)
        return method(Counted(schedule), x, times, **given)

    whole = run([0, 1], 0, 100)
    pieces = torch.cat([run([0, 1], 0, 37), run([0, 1], 37, 100)], dim=-1)
    alone = torch.cat([run([0], 0, 100), run([1], 0, 100)])
    assert whole.dtype == torch.float32
    assert torch.equal(pieces, whole) and torch.equal(alone, whole)


@pytest.mark.parametrize("method", EVERY)
def test_the_conditioner_reaches_the_denoiser(method):
    cond, noise = torch.full((1, 1, 4), 2.0), Noise(0, rows=[(0, 0)], channels=1)
    with_it = method(Counted(EDM()), torch.zeros(1, 1, 4), torch.ones(1), cond=cond, noise=noise)
    assert torch.equal(with_it, cond)


def test_full_ancestral_noise_is_ddpm_and_none_is_the_ode():
    times, x, noise = log_snr_grid(EDM(), 5), draw(1, 1, 8), Noise(0, rows=[(0, 0)], channels=1)
    denoiser = Counted(EDM())
    full = ddim(denoiser, x, times, noise=noise, eta=1.0)
    assert torch.equal(full, ddpm(denoiser, x, times, noise=noise))
    assert not torch.allclose(full, ddim(denoiser, x, times))


@pytest.mark.parametrize("method", EVERY)
def test_what_is_missing_is_named(method):
    x, times = draw(1, 1, 8), power_grid(BRIDGE, 3)
    with pytest.raises(InputError, match="y is missing"):
        method(Counted(BRIDGE), x, times)
    with pytest.raises(InputError, match="noise is missing"):
        method(Counted(BRIDGE), x, times, y=x)
    with pytest.raises(InputError, match="y is missing"):
        initial_state(BRIDGE, times[0], noise=lambda *_: x, start=0, length=8)


@pytest.mark.parametrize("times", [[], [0.5, 0.6], [0.5, 0.5], [1.1, 0.5], [0.5, 0.0], [[0.5]]])
def test_times_must_fall_and_stay_above_zero(times):
    with pytest.raises(InputError, match=r"^times "):
        ddim(Counted(EDM()), draw(1, 1, 8), torch.tensor(times))


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_has_a_range(eta):
    with pytest.raises(InputError, match="eta is"):
        ddim(Counted(EDM()), draw(1, 1, 8), torch.ones(1), eta=eta)


@sampler(stages=3)
def thorough(walk: Walk, x: torch.Tensor, *, share: float = 1.0) -> torch.Tensor:
    """Three estimates a step, a mean of them at the next."""
    for call, t, s in walk:
        x_hat = torch.stack([walk.estimate(x, t) for _ in range(3)]).mean(0)
        x = walk.step(x, share * x_hat, t, s, call=call)
    return walk.estimate(x, walk.last)


@pytest.mark.parametrize("made", [*EVERY, thorough])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("schedule", [EDM(), RectifiedFlow(), BRIDGE])
def test_samplers_state_their_calls(made, steps, schedule):
    denoiser, y = Counted(schedule), draw(1, 1, 8)
    noise = Noise(0, rows=[(0, 0)], channels=1)
    made(denoiser, y, power_grid(schedule, steps), y=y, noise=noise)
    assert (
        len(denoiser.times) <= network_calls(made, steps) == steps + (made.stages - 1) * (steps - 1)
    )
    if made is not thorough:
        assert len(denoiser.times) == network_calls(made, steps, schedule)


def test_samplers_are_declared_once():
    assert list(SAMPLERS.values()) == EVERY
    assert ", ".join(SAMPLERS) == SAMPLER_NAMES
    assert all(sampler_named(name) is made for name, made in SAMPLERS.items())
    for made in (*EVERY, thorough):
        parameters = list(signature(made).parameters.values())
        assert [p.name for p in parameters[3:8]] == ["y", "cond", "noise", "start", "progress"]
        assert tuple(p.name for p in parameters[:3]) == FIRST
        assert {p.kind for p in parameters[3:]} == {Parameter.KEYWORD_ONLY}
        assert pickle.loads(pickle.dumps(made)) is made
    assert list(signature(ddim).parameters)[8:] == ["eta"]
    assert list(signature(thorough).parameters)[8:] == ["share"]


def test_a_sampler_of_ones_own_runs_by_its_path_with_its_options():
    own = sampler_named(f"{__name__}.thorough")
    x, times = draw(1, 1, 8), power_grid(EDM(), 3)
    assert own is thorough and network_calls(own, 3) == 7
    assert not torch.equal(own(Counted(EDM()), x, times), own(Counted(EDM()), x, times, share=0.5))
    with pytest.raises(TypeError, match="'other'"):
        own(Counted(EDM()), x, times, other=1.0)


def test_a_plain_function_states_no_calls_unless_it_has_stages():
    def plain(denoiser, x, times, *, y=None, cond=None, noise=None, start=0, progress=None):
        return denoiser(x, times[-1], y, cond)

    assert network_calls(plain, 4) is None
    plain.stages = 1
    assert network_calls(plain, 4) == 4
