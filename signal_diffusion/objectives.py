"""What a training run minimises: with clean signals, or from noisy recordings alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from signal_diffusion.data.mixing import Batch
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.metrics import si_sdr
from signal_diffusion.schedules import Schedule
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.score_errors import squared_errors


class Objective(nn.Module, ABC):
    """The loss of a batch and the score of a recording."""

    @abstractmethod
    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms whose sum is minimised, with what is random drawn from the generator."""

    @abstractmethod
    def score(
        self,
        denoiser: NetworkDenoiser,
        clean: Tensor,
        noisy: Tensor,
        missing: Tensor | None = None,
    ) -> Tensor:
        """How well a recording (C, L) is denoised in one step, in dB.

        `missing` (C, L) is true where samples of the noisy one were filled in.
        """


def times_of(
    schedule: Schedule, size: int, generator: torch.Generator, *, last_time: float
) -> Tensor:
    """Times (size, 1, 1), evenly drawn but for a share of them at the last."""
    t = torch.rand(size, generator=generator) * (schedule.t_max - schedule.t_min)
    last = torch.rand(size, generator=generator) < last_time
    return torch.where(last, schedule.t_start, schedule.t_min + t).reshape(size, 1, 1)


def compared(
    denoiser: NetworkDenoiser,
    loss: nn.Module,
    x_0: Tensor,
    t: Tensor,
    generator: torch.Generator,
    *,
    signal: Tensor,
    y: Tensor | None = None,
    cond: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of a loss on the estimate at x_t = alpha x_0 + beta y + sigma z, with z drawn."""
    z = torch.randn(x_0.shape, generator=generator).to(x_0)
    alpha, beta, sigma = denoiser.schedule(t)
    x_t = alpha * x_0 + sigma * z + (0.0 if y is None else beta * y)
    x_hat = denoiser(x_t, t, y, cond).float()
    with full_precision(x_0.device):
        terms: dict[str, Tensor] = loss(x_hat, x_0, signal, t, denoiser)
    return terms


class Supervised(Objective):
    """Draws t and z, forms x_t = alpha x_0 + beta y + sigma z, and compares x_hat with x_0.

    Args:
        loss: see `losses`.
        last_time: share of the clips at the last time, where one-step denoising is learnt.
        noise_std: of the validation recordings, for unpaired schedules; see `denoise`.
    """

    def __init__(
        self, loss: nn.Module, *, last_time: float = 0.0, noise_std: float | None = None
    ) -> None:
        super().__init__()
        self.loss, self.last_time, self.noise_std = loss, last_time, noise_std

    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        x_0 = denoiser.codec.encode(batch.clean)
        y = denoiser.codec.encode(batch.noisy) if denoiser.schedule.paired else None
        t = times_of(denoiser.schedule, len(x_0), generator, last_time=self.last_time).to(x_0)
        return compared(
            denoiser, self.loss, x_0, t, generator, signal=batch.clean, y=y, cond=batch.cond
        )

    def score(
        self,
        denoiser: NetworkDenoiser,
        clean: Tensor,
        noisy: Tensor,
        missing: Tensor | None = None,
    ) -> Tensor:
        rows = noisy.reshape(-1, noisy.shape[-1])
        gaps = None if missing is None else missing.reshape(rows.shape)
        estimate = denoise(denoiser, rows, noise_std=self.noise_std, missing=gaps)
        return si_sdr(estimate, clean.reshape(estimate.shape)).mean()


class NoisyOnly(Objective):
    """Learns from recordings y = x + z' in white Gaussian noise of variance 1, without any x.

    At the recordings' own noise, Stein's unbiased estimate of the squared error, with a Monte-Carlo
    divergence along a random direction b:

        |x_hat(y) - y|^2 + 2 b (x_hat(y + e b) - x_hat(y)) / e - 1

    Above it, where x_t = y + sqrt(sigma_t^2 - 1) z, ambient diffusion: the estimate of y that
    follows from that of x is compared with y,

        E[y | x_t] = (x_t + (sigma_t^2 - 1) E[x | x_t]) / sigma_t^2

    Args:
        above: share of the clips above the recordings' noise.
        most: largest sigma_t there.
        probe: e.

    Source: Stein 1981; Ramani and others 2008 for the divergence; Daras and others 2024
    (arXiv:2404.10177) for the identity.
    """

    def __init__(self, *, above: float = 0.5, most: float = 8.0, probe: float = 0.05) -> None:
        super().__init__()
        self.above, self.most, self.probe = above, most, probe

    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        own = round(len(batch.noisy) * (1 - self.above))
        y, higher = batch.noisy[:own], batch.noisy[own:]
        terms = {}
        if len(y):
            terms["sure"] = self.risk(denoiser, y, generator).mean()
        if len(higher):
            terms["ambient"] = self._ambient(denoiser, higher, generator)
        return terms

    def risk(self, denoiser: NetworkDenoiser, y: Tensor, generator: torch.Generator) -> Tensor:
        """Stein's estimate of the mean squared error of each clip (B,), from y (B, C, L) alone."""
        t = time_of(denoiser, 1.0)
        b = torch.randn(y.shape, generator=generator).to(y)
        both = torch.cat([y, y + self.probe * b])
        x_hat, moved = denoiser(both, torch.full((len(both), 1, 1), t).to(y)).float().chunk(2)
        divergence = (b * (moved - x_hat)).mean(dim=(1, 2)) / self.probe
        return (x_hat - y).square().mean(dim=(1, 2)) + 2 * divergence - 1

    def score(
        self,
        denoiser: NetworkDenoiser,
        clean: Tensor,
        noisy: Tensor,
        missing: Tensor | None = None,
    ) -> Tensor:
        """The estimated SNR of the estimate: the signal's power over Stein's risk."""
        y = noisy.reshape(-1, 1, noisy.shape[-1])
        risk = self.risk(denoiser, y, torch.Generator().manual_seed(0)).mean()
        power = (y - y.mean(dim=-1, keepdim=True)).square().mean() - 1
        return 10 * torch.log10(power.clamp_min(1e-3) / risk.clamp_min(1e-3))

    def _ambient(self, denoiser: NetworkDenoiser, y: Tensor, generator: torch.Generator) -> Tensor:
        spread = torch.rand(len(y), generator=generator).reshape(-1, 1, 1)
        sigma = torch.exp(math.log(1.2) + spread * math.log(self.most / 1.2))
        t = torch.tensor([time_of(denoiser, float(s)) for s in sigma]).reshape(-1, 1, 1)
        sigma, t = sigma.to(y), t.to(y)
        z = torch.randn(y.shape, generator=generator).to(y)
        x_t = y + (sigma**2 - 1).sqrt() * z
        x_hat = denoiser(x_t, t).float()
        y_hat = (x_t + (sigma**2 - 1) * x_hat) / sigma**2
        # The error of y_hat is at least its own posterior's; the weight keeps the levels alike.
        weight = sigma**2 / (sigma**2 - 1)
        return (weight * (y_hat - y).square()).mean()


class LevelErrors(Objective):
    """Learns states of any number of channels, at levels of noise drawn evenly in their logarithm.

        |D(x + level z; level) - x|^2 / c_out^2

    Args:
        least, most: range of the level, over the signal's deviation.
    """

    def __init__(self, *, least: float = 0.05, most: float = 5.0) -> None:
        super().__init__()
        self.least, self.most = least, most

    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        x = batch.clean
        share = torch.rand(len(x), 1, 1, generator=generator)
        level = self.least * (self.most / self.least) ** share
        z = torch.randn(x.shape, generator=generator).to(x)
        errors, t = squared_errors(denoiser, x, level, z)
        weight = denoiser.sigma_data**2 * denoiser.loss_weight(t)
        return {"squared_error": (weight * errors).mean()}

    def score(
        self,
        denoiser: NetworkDenoiser,
        clean: Tensor,
        noisy: Tensor,
        missing: Tensor | None = None,
    ) -> Tensor:
        """The SNR of the estimates of a recording (B, C, L) out of noise as strong as it, in dB."""
        z = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(clean)
        errors, _ = squared_errors(denoiser, clean, torch.ones(1, 1, 1), z)
        return 10 * torch.log10(clean.square().mean() / errors.mean())


def time_of(denoiser: NetworkDenoiser, sigma: float) -> float:
    """The time at which an unpaired process has the noise sigma, relative to its signal."""
    log_snr = torch.tensor(-math.log(sigma), dtype=torch.float64)
    return float(denoiser.schedule.time_at(log_snr))


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Turns autocast off, on the devices that know it."""
    if device.type in ("cpu", "cuda"):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
