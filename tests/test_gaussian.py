"""The oracle against dense linear algebra: conditional means of the joint normal law."""

from __future__ import annotations

import pytest
import torch

from signal_diffusion.errors import InputError
from signal_diffusion.gaussian import GaussianDenoiser
from signal_diffusion.schedules import (
    EDM,
    BrownianBridge,
    OrnsteinUhlenbeck,
    RectifiedFlow,
    VariancePreserving,
)

MEAN = 0.6


def spectra(length):
    bins = torch.arange(length // 2 + 1, dtype=torch.float64)
    return 0.2 + 3 * torch.exp(-bins / 3), 0.4 + 0.1 * bins


def covariance(variance, length):
    """The circulant matrix whose eigenvalues are the variances of the bins."""
    column = torch.fft.irfft(variance.to(torch.complex128), n=length)
    return torch.stack([column.roll(k) for k in range(length)])


def conditional_mean(cross, law, mean, observed, expected):
    return mean + cross @ torch.linalg.solve(law, observed - expected)


def draw(length):
    generator = torch.Generator().manual_seed(length)
    return torch.randn(2, length, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("length", [12, 13])
@pytest.mark.parametrize("schedule", [VariancePreserving(), EDM(), RectifiedFlow()])
def test_unpaired_is_the_conditional_mean(schedule, length):
    variance, _ = spectra(length)
    signal, eye = covariance(variance, length), torch.eye(length, dtype=torch.float64)
    x_t, t = draw(length)[0], torch.tensor(0.4, dtype=torch.float64)
    alpha, _, sigma = schedule(t)
    expected = conditional_mean(
        alpha * signal, alpha**2 * signal + sigma**2 * eye, MEAN, x_t, alpha * MEAN
    )
    oracle = GaussianDenoiser(schedule, variance=variance, mean=MEAN)
    torch.testing.assert_close(oracle(x_t[None, None], t)[0, 0], expected)


@pytest.mark.parametrize("length", [12, 13])
@pytest.mark.parametrize(
    "schedule", [BrownianBridge(0.7), OrnsteinUhlenbeck(), VariancePreserving()]
)
def test_paired_is_the_conditional_mean_given_the_state_and_y(schedule, length):
    (variance, noise), eye = spectra(length), torch.eye(length, dtype=torch.float64)
    signal, disturbance = covariance(variance, length), covariance(noise, length)
    (x_t, y), t = draw(length), torch.tensor(0.4, dtype=torch.float64)
    alpha, beta, sigma = schedule(t)
    law = torch.cat(
        [
            torch.cat([alpha**2 * signal + sigma**2 * eye, alpha * signal], dim=1),
            torch.cat([alpha * signal, signal + disturbance], dim=1),
        ]
    )
    expected = conditional_mean(
        torch.cat([alpha * signal, signal], dim=1),
        law,
        MEAN,
        torch.cat([x_t - beta * y, y]),
        MEAN * torch.cat([alpha.expand(length), torch.ones(length)]),
    )
    oracle = GaussianDenoiser(schedule, variance=variance, noise_variance=noise, mean=MEAN)
    torch.testing.assert_close(oracle(x_t[None, None], t, y[None, None])[0, 0], expected)


def test_at_the_end_of_the_bridge_it_is_the_wiener_filter():
    (variance, noise), y = spectra(12), draw(12)[1]
    signal, disturbance = covariance(variance, 12), covariance(noise, 12)
    expected = conditional_mean(signal, signal + disturbance, MEAN, y, MEAN)
    oracle = GaussianDenoiser(BrownianBridge(), variance=variance, noise_variance=noise, mean=MEAN)
    for t, tolerance in ((1.0, 1e-12), (1 - 1e-9, 1e-8)):
        x_hat = oracle(y[None, None], torch.tensor(t, dtype=torch.float64), y[None, None])[0, 0]
        torch.testing.assert_close(x_hat, expected, rtol=0, atol=tolerance)


def test_a_time_for_every_row():
    oracle = GaussianDenoiser(EDM(), variance=spectra(12)[0], mean=MEAN)
    x_t, t = draw(12)[:, None], torch.tensor([0.2, 0.7], dtype=torch.float64)
    alone = [oracle(x[None], time) for x, time in zip(x_t, t, strict=True)]
    torch.testing.assert_close(oracle(x_t, t.reshape(-1, 1, 1)), torch.cat(alone))


def test_silence_stays_silent():
    """No 0/0 in bins without signal, at any time."""
    oracle = GaussianDenoiser(
        BrownianBridge(), variance=torch.zeros(7), noise_variance=torch.ones(7)
    )
    y = draw(12)[0].float()[None, None]
    for t in (0.0, 0.5, 1.0):
        assert torch.equal(oracle(y, torch.tensor(t), y), torch.zeros_like(y))


def test_it_stays_in_the_precision_of_the_state():
    oracle = GaussianDenoiser(EDM(), variance=spectra(12)[0])
    x_t = draw(12)[:, None].float()
    assert oracle(x_t, torch.tensor(0.3, dtype=torch.float64)).dtype == torch.float32


def test_what_is_missing_is_named():
    variance, noise = spectra(12)
    with pytest.raises(InputError, match="noise_variance is missing"):
        GaussianDenoiser(BrownianBridge(), variance=variance)
    paired = GaussianDenoiser(BrownianBridge(), variance=variance, noise_variance=noise)
    with pytest.raises(InputError, match="y is missing"):
        paired(torch.zeros(1, 1, 12), torch.tensor(0.5))
    with pytest.raises(InputError, match="7 bins, but a signal of 20 samples has 11"):
        GaussianDenoiser(EDM(), variance=variance)(torch.zeros(1, 1, 20), torch.tensor(0.5))
