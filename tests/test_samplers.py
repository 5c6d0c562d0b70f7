"""Every sampler against the Gaussian oracle: its order, its exact moments, its limit.

All of them are linear in the state, y and the noises, so that unit inputs read their gains off
exactly: nothing here is a Monte Carlo estimate.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import (
    BINS,
    BRIDGE_SCALE,
    LENGTH,
    MEAN,
    NOISE_VARIANCE,
    VARIANCE,
    Reference,
    moments,
    posterior,
    start_law,
)

from signal_diffusion import samplers
from signal_diffusion.gaussian import GaussianDenoiser
from signal_diffusion.schedules import (
    EDM,
    BrownianBridge,
    OrnsteinUhlenbeck,
    RectifiedFlow,
    VariancePreserving,
    log_snr_grid,
    power_grid,
)

SCHEDULES = {
    "vp": VariancePreserving(),
    "edm": EDM(),
    "flow": RectifiedFlow(),
    "ou": OrnsteinUhlenbeck(),
    "bridge": BrownianBridge(BRIDGE_SCALE),
}
SAMPLERS = {
    "ddpm": samplers.ddpm,
    "ddim": samplers.ddim,
    "half": lambda *args, **given: samplers.ddim(*args, eta=0.5, **given),
    "heun": samplers.heun,
    "dpmpp_2m": samplers.dpmpp_2m,
    "few_step": samplers.few_step,
}
ORDERS = {"ddim": 1, "heun": 2, "dpmpp_2m": 2}
Y = -1.3


def oracle(schedule, variance=VARIANCE, noise_variance=NOISE_VARIANCE):
    noise = torch.tensor(noise_variance) if schedule.paired else None
    return GaussianDenoiser(
        schedule, variance=torch.tensor(variance), noise_variance=noise, mean=MEAN
    )


def gains(method, denoiser, times):
    """How x_hat answers, bin by bin, to (the mean, x, y, the noise of each update)."""
    rows = 2 + len(times)
    units = torch.zeros(rows, rows, 1, LENGTH, dtype=torch.float64)
    units[range(rows), range(rows), 0, 0] = 1
    y = units[2] if denoiser.schedule.paired else None
    x_hat = SAMPLERS[method](
        denoiser, units[1], times, y=y, noise=lambda call, start, length: units[2 + call]
    )
    torch.testing.assert_close(x_hat[0], x_hat[0, :, :1].expand(1, LENGTH))
    answer = torch.fft.rfft((x_hat - x_hat[0])[:, 0]).real.numpy()
    answer[0] = float(x_hat[0, 0, 0]) / MEAN * (BINS == 0)
    return answer


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("method", SAMPLERS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_mean_and_variance_are_those_of_the_scalar_recursion(name, method, steps):
    schedule = SCHEDULES[name]
    for times in (
        power_grid(schedule, steps),
        log_snr_grid(schedule, steps, first=0.95, last=0.05),
    ):
        found = gains(method, oracle(schedule), times)
        wanted = getattr(Reference(name, times), method)()
        wanted[0] *= BINS == 0
        law = start_law(name, float(times[0]), Y)
        (mean, variance), (right_mean, right) = moments(found, *law, Y), moments(wanted, *law, Y)
        np.testing.assert_allclose(mean, right_mean, rtol=1e-8)
        np.testing.assert_allclose(variance, right, rtol=1e-8, atol=1e-14)
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-8)


def exact_end(name, x, y, t, s):
    """The probability-flow ODE from t to s, solved: quantiles keep their place in every bin."""
    (alpha_t, beta_t, sigma_t), (alpha_s, beta_s, sigma_s) = SCHEDULES[name](t), SCHEDULES[name](s)
    on_mean, on_y, variance = (torch.tensor(gain) for gain in posterior(name))
    stretch = ((alpha_s**2 * variance + sigma_s**2) / (alpha_t**2 * variance + sigma_t**2)).sqrt()
    prior = torch.fft.irfft(on_y * torch.fft.rfft(y), n=LENGTH) + on_mean[0] * MEAN
    deviation = torch.fft.rfft(x - alpha_t * prior - beta_t * y)
    return torch.fft.irfft(stretch * deviation, n=LENGTH) + alpha_s * prior + beta_s * y


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("method", ORDERS)
def test_order_of_convergence(name, method):
    """The slope of the error of x_hat over N = 64 to 256, between interior times."""
    schedule, counts, errors = SCHEDULES[name], (64, 128, 256), []
    x, y = torch.randn(2, 4, 1, LENGTH, generator=torch.Generator().manual_seed(5)).double()
    for steps in counts:
        times = log_snr_grid(schedule, steps, first=0.95, last=0.05)
        state = schedule(times[0])[2] * x + y
        exact = oracle(schedule)(exact_end(name, state, y, *times[[0, -1]]), times[-1], y)
        x_hat = SAMPLERS[method](oracle(schedule), state, times, y=y)
        errors.append(float((x_hat - exact).square().mean()) ** 0.5)
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(order - ORDERS[method]) < 0.15


@pytest.mark.parametrize("method", ["ddpm", "half", "ddim"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_many_steps_reach_the_posterior(name, method):
    """At every N the mean is that of x_0 given y; the variance tends to its variance like 1/N."""
    schedule, (on_mean, on_y, variance) = SCHEDULES[name], posterior(name)
    misses = []
    for steps in (64, 128, 256):
        times = power_grid(schedule, steps)
        law = start_law(name, float(times[0]), Y)
        mean, spread = moments(gains(method, oracle(schedule), times), *law, Y)
        np.testing.assert_allclose(mean, (on_mean * MEAN + on_y * Y)[0], rtol=1e-10)
        misses.append(np.abs(spread / variance - 1).max())
    assert misses[-1] < 0.05
    assert 1.8 < misses[1] / misses[2] < 2.1


@pytest.mark.parametrize("steps", [16, 64, 256])
def test_renoising_saturates_below_the_posterior(steps):
    """Few-step sampling never reaches the variance, however many its steps."""
    answer = gains("few_step", oracle(SCHEDULES["bridge"]), power_grid(SCHEDULES["bridge"], steps))
    share = (answer[3:] ** 2).sum(0) / posterior("bridge")[2]
    assert (share < 0.75).all()


@pytest.mark.parametrize(
    ("method", "scale", "shares"),
    [
        ("ddpm", 0.3, (0.0, 0.13, 0.35, 0.58, 0.76)),
        ("ddpm", 1.0, (0.0, 0.22, 0.43, 0.60, 0.74)),
        ("ddim", 0.3, (0.0, 0.13, 0.31, 0.50, 0.66)),
        ("ddim", 1.0, (0.0, 0.22, 0.45, 0.65, 0.78)),
        ("few_step", 0.3, (0.0, 0.13, 0.31, 0.42, 0.46)),
        ("few_step", 1.0, (0.0, 0.22, 0.32, 0.38, 0.42)),
    ],
)
def test_steps_go_from_the_mean_to_a_sample(method, scale, shares):
    """The share of the posterior's variance at 1, 2, 4, 8, 16 even steps, at an SNR of 0 dB."""
    white = np.ones(len(BINS))
    schedule = BrownianBridge(scale)
    for steps, share in zip((1, 2, 4, 8, 16), shares, strict=True):
        times = power_grid(schedule, steps, power=1.0)
        answer = gains(method, oracle(schedule, white, white), times)
        np.testing.assert_allclose((answer[3:] ** 2).sum(0) / 0.5, share, atol=0.006)


@pytest.mark.parametrize("steps", [1, 4, 64])
def test_ornstein_uhlenbeck_starts_only_near_its_law(steps):
    """A start at y + sigma z misses alpha (E[x_0 | y] - y) of its mean, which a gain carries on."""
    schedule, (on_mean, on_y, _) = SCHEDULES["ou"], posterior("ou")
    times = power_grid(schedule, steps)
    answer = gains("ddpm", oracle(schedule), times)
    exact_mean, variance = start_law("ou", 1.0, Y)
    missed = float(schedule(times[0])[0]) * ((on_mean * MEAN + on_y * Y)[0] - Y)
    assert exact_mean - Y == pytest.approx(missed)
    bias = moments(answer, Y, variance, Y)[0] - moments(answer, exact_mean, variance, Y)[0]
    assert bias == pytest.approx(-answer[1, 0] * missed)
    assert abs(bias) > 0.01
