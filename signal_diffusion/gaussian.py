"""The exact denoiser of a Gaussian signal: the ruler that samplers and networks are held to."""

from __future__ import annotations

import torch
from torch import Tensor

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError
from signal_diffusion.schedules import Schedule


class GaussianDenoiser(Denoiser):
    """E[x_0 | x_t, y] of a stationary circular Gaussian signal, exact in every Fourier bin.

        m, p  = mean and variance of x_0, or of x_0 given y (the Wiener filter) where y = x_0 + n
        x_hat = m + alpha p / (alpha^2 p + sigma^2) (x_t - beta y - alpha m)

    Where alpha = sigma = 0 (the bridge at t = 1, whose state is y) the estimate is m, its limit.
    Wiener 1949, "Extrapolation, interpolation, and smoothing of stationary time series".

    Args:
        schedule: the process.
        variance: (L//2 + 1,) variance of x_0 per bin of the orthonormal DFT; all 1 is white noise
            of variance 1.
        noise_variance: (L//2 + 1,) the same of n = y - x_0; paired schedules need it.
        mean: mean of x_0.

    >>> from signal_diffusion.schedules import EDM
    >>> oracle = GaussianDenoiser(EDM(), variance=torch.full((5,), 4.0))
    >>> t = EDM().time_at(torch.tensor(0.0))   # where sigma = 1
    >>> oracle(torch.ones(1, 1, 8), t)[0, 0, 0]
    tensor(0.8000)
    """

    variance: Tensor
    noise_variance: Tensor | None

    def __init__(
        self,
        schedule: Schedule,
        *,
        variance: Tensor,
        noise_variance: Tensor | None = None,
        mean: float = 0.0,
    ) -> None:
        super().__init__()
        if schedule.paired and noise_variance is None:
            raise InputError("noise_variance is missing: paired schedules need the law of y - x_0")
        self.schedule, self.mean = schedule, mean
        self.register_buffer("variance", variance)
        self.register_buffer("noise_variance", noise_variance)

    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        self._check(x_t, y)
        alpha, beta, sigma = (c.to(x_t.dtype) for c in self.schedule(t))
        prior, variance = self._given(x_t, y)
        residual = x_t - alpha * prior if y is None else x_t - beta * y - alpha * prior
        total = alpha**2 * variance + sigma**2
        gain = torch.where(total > 0, alpha * variance / total, 0.0)
        return prior + _filter(gain, residual)

    def _given(self, x_t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and variance per bin of x_0 given y."""
        mean, variance = torch.full_like(x_t, self.mean), self.variance.to(x_t)
        if self.noise_variance is None or y is None:
            return mean, variance
        wiener = variance / (variance + self.noise_variance.to(x_t))
        return mean + _filter(wiener, y - mean), wiener * self.noise_variance.to(x_t)

    def _check(self, x_t: Tensor, y: Tensor | None) -> None:
        if len(self.variance) != x_t.shape[-1] // 2 + 1:
            raise InputError(
                f"variance has {len(self.variance)} bins, but a signal of {x_t.shape[-1]} samples "
                f"has {x_t.shape[-1] // 2 + 1}; pass variance of that length"
            )
        if y is None and self.noise_variance is not None:
            raise InputError("y is missing: this oracle knows the law of y - x_0, pass y=...")


def _filter(gain: Tensor, x: Tensor) -> Tensor:
    spectrum = gain * torch.fft.rfft(x, norm="ortho")
    return torch.fft.irfft(spectrum, n=x.shape[-1], norm="ortho")
