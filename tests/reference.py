"""The samplers as their papers print them, in NumPy, on a Gaussian signal.

Nothing here comes from the package: marginals, posteriors and steps are written down again. A state
is a table of gains: how it answers, in every Fourier bin, to the signal's mean, the initial state,
y and the noise of each update.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

LENGTH, MEAN = 16, 0.6
BINS = np.arange(LENGTH // 2 + 1)
VARIANCE = 0.1 + 2.5 * np.exp(-BINS / 2)
NOISE_VARIANCE = 0.3 + 0.1 * BINS
BRIDGE_SCALE = 0.7
PAIRED = ("ou", "bridge")


def vp(t):
    integral = 0.1 * t + 9.95 * t**2
    return np.exp(-integral / 2), 0.0, np.sqrt(1 - np.exp(-integral))


def edm(t):
    return 1.0, 0.0, (0.002 ** (1 / 7) * (1 - t) + 80 ** (1 / 7) * t) ** 7


def flow(t):
    return 1 - t, 0.0, t


def ou(t):
    ratio = np.log(10)
    variance = 0.05**2 * ratio / (1.5 + ratio) * (100**t - np.exp(-3 * t))
    return np.exp(-1.5 * t), 1 - np.exp(-1.5 * t), np.sqrt(variance)


def bridge(t):
    return 1 - t, t, BRIDGE_SCALE * np.sqrt(t * (1 - t))


MARGINALS = {"vp": vp, "edm": edm, "flow": flow, "ou": ou, "bridge": bridge}


def posterior(name):
    """Gains on (mean, y) and variance of x_0, given y where there is one."""
    precision = (name in PAIRED) / NOISE_VARIANCE
    variance = 1 / (1 / VARIANCE + precision)
    return variance / VARIANCE, variance * precision, variance


def start_law(name, t, y):
    """Mean (bin 0) and variance of the state at t, given y."""
    (alpha, beta, sigma), (on_mean, on_y, variance) = MARGINALS[name](t), posterior(name)
    return (alpha * (on_mean * MEAN + on_y * y) + beta * y)[0], alpha**2 * variance + sigma**2


def moments(gains, start_mean, start_variance, y):
    """Mean (bin 0) and variance of what has these gains, given y."""
    mean = gains[0] * MEAN + gains[1] * start_mean + gains[2] * y
    return mean[0], gains[1] ** 2 * start_variance + (gains[3:] ** 2).sum(0)


class Reference:
    """Runs a published sampler over `times`; the state is u = x - beta y."""

    def __init__(self, name, times):
        self.name, self.marginal, self.times = name, MARGINALS[name], [float(t) for t in times]
        self.units = np.eye(2 + len(times))[:, :, None] * np.ones(len(BINS))

    def estimate(self, u, t):
        """E[x_0 | x_t, y], by precisions."""
        alpha, _, sigma = self.marginal(t)
        on_mean, on_y, variance = posterior(self.name)
        given = on_mean * self.units[0] + on_y * self.units[2]
        if sigma == 0:
            return given
        return (given / variance + alpha * u / sigma**2) / (1 / variance + alpha**2 / sigma**2)

    def run(self, step):
        """Gains of the last estimate, with `step(u, x_hat, t, s, z)` between the calls."""
        t = self.times[0]
        u = self.units[1] - self.marginal(t)[1] * self.units[2]
        for call, (t, s) in enumerate(pairwise(self.times), start=1):
            x_hat, z = self.estimate(u, t), self.units[2 + call]
            known = self.marginal(t)[2] > 0
            u = step(u, x_hat, t, s, z) if known else self.renoised(u, x_hat, t, s, z)
        return self.estimate(u, self.times[-1])

    def renoised(self, u, x_hat, t, s, z):
        return self.marginal(s)[0] * x_hat + self.marginal(s)[2] * z

    def few_step(self):
        return self.run(self.renoised)

    def ddpm(self):
        """Ho et al. 2020: the product of the transition's and the marginal's normal laws."""

        def step(u, x_hat, t, s, z):
            (alpha_t, _, sigma_t), (alpha_s, _, sigma_s) = self.marginal(t), self.marginal(s)
            ratio = alpha_t / alpha_s
            moved = sigma_t**2 - ratio**2 * sigma_s**2
            mean = (ratio * sigma_s**2 * u + alpha_s * moved * x_hat) / sigma_t**2
            return mean + np.sqrt(moved) * sigma_s / sigma_t * z

        return self.run(self.brownian if self.name == "bridge" else step)

    def brownian(self, u, x_hat, t, s, z):
        """Brownian motion from x_hat at time 0 to x_t at time t, seen at s."""
        x_t, spread = u + t * self.units[2], np.sqrt(s * (t - s) / t)
        x_s = s / t * x_t + (1 - s / t) * x_hat + BRIDGE_SCALE * spread * z
        return x_s - s * self.units[2]

    def ddim(self, eta=0.0):
        """Song et al. 2021, equation 12."""

        def step(u, x_hat, t, s, z):
            (alpha_t, _, sigma_t), (alpha_s, _, sigma_s) = self.marginal(t), self.marginal(s)
            fresh = eta * sigma_s * np.sqrt(1 - (alpha_t * sigma_s / alpha_s / sigma_t) ** 2)
            direction = (u - alpha_t * x_hat) / sigma_t
            return alpha_s * x_hat + np.sqrt(sigma_s**2 - fresh**2) * direction + fresh * z

        return self.run(step)

    def half(self):
        return self.ddim(eta=0.5)

    def heun(self):
        """Karras et al. 2022, algorithm 1, in u / alpha over sigma / alpha."""

        def step(u, x_hat, t, s, z):
            (alpha_t, _, sigma_t), (alpha_s, _, sigma_s) = self.marginal(t), self.marginal(s)
            level, lower = sigma_t / alpha_t, sigma_s / alpha_s
            slope = (u / alpha_t - x_hat) / level
            ahead = u / alpha_t + (lower - level) * slope
            slope_ahead = (ahead - self.estimate(alpha_s * ahead, s)) / lower
            return alpha_s * (u / alpha_t + (lower - level) * (slope + slope_ahead) / 2)

        return self.run(step)

    def dpmpp_2m(self):
        """Lu et al. 2022, algorithm 2; nothing is extrapolated from an infinite log-SNR."""
        before = []

        def step(u, x_hat, t, s, z):
            (alpha_t, _, sigma_t), (alpha_s, _, sigma_s) = self.marginal(t), self.marginal(s)
            h = np.log(alpha_s / sigma_s) - np.log(alpha_t / sigma_t)
            ahead = x_hat
            if before:
                ratio = before[-1][0] / h
                ahead = (1 + 1 / (2 * ratio)) * x_hat - 1 / (2 * ratio) * before[-1][1]
            before.append((h, x_hat))
            return sigma_s / sigma_t * u - alpha_s * np.expm1(-h) * ahead

        return self.run(step)
