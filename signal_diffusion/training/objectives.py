"""What a training run minimises with clean signals; `noisy_only` has what needs none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from signal_diffusion.data.batches import Batch
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.metrics import log_spectral_distance, si_sdr
from signal_diffusion.nn.mel import conditioner, padded, scale_of
from signal_diffusion.schedules import DiscreteVariancePreserving, Schedule
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.diffwave_checkpoint import mel_of
from signal_diffusion.tasks.vocode import require_vocoder, vocode
from signal_diffusion.tasks.window_errors import squared_errors
from signal_diffusion.training.losses import AbsoluteError, Prediction


@dataclass(frozen=True)
class Held:
    """A recording that is held out of the training.

    Attributes:
        clean: (C, L), or (B, C, L) where an objective takes several clips.
        noisy: of the same shape.
        missing: true where samples of the noisy one were filled in, or None.
    """

    clean: Tensor
    noisy: Tensor
    missing: Tensor | None = None


class Objective(nn.Module, ABC):
    """The loss of a batch and the score of a recording."""

    @abstractmethod
    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms whose sum is minimised, with what is random drawn from the generator."""

    @abstractmethod
    def score(self, denoiser: NetworkDenoiser, held: Held) -> Tensor:
        """How well a held-out recording is denoised in one step, in dB."""


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
    noisy: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of a loss on the estimate at x_t = alpha x_0 + beta y + sigma z, with z drawn."""
    z = torch.randn(x_0.shape, generator=generator).to(x_0)
    alpha, beta, sigma = denoiser.schedule(t)
    x_t = alpha * x_0 + sigma * z + (0.0 if y is None else beta * y)
    x_hat = denoiser(x_t, t, y, cond).float()
    with full_precision(x_0.device):
        terms: dict[str, Tensor] = loss(
            Prediction(x_hat, x_0, signal, t, denoiser=denoiser, noisy=noisy)
        )
    return terms


class Regression(Objective):
    """Draws t and z, forms x_t = alpha x_0 + beta y + sigma z, and compares x_hat with x_0.

    Args:
        loss: see `losses`.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    @abstractmethod
    def times(self, schedule: Schedule, size: int, generator: torch.Generator) -> Tensor:
        """Random times (size, 1, 1)."""

    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        x_0 = denoiser.codec.encode(batch.clean)
        y = denoiser.codec.encode(batch.noisy) if denoiser.schedule.paired else None
        t = self.times(denoiser.schedule, len(x_0), generator).to(x_0)
        return compared(
            denoiser,
            self.loss,
            x_0,
            t,
            generator,
            signal=batch.clean,
            y=y,
            cond=batch.cond,
            noisy=batch.noisy,
        )


class Supervised(Regression):
    """Learns at times that are evenly drawn, but for a share at the last.

    Args:
        loss: see `losses`.
        last_time: share of the clips at the last time, where one-step denoising is learnt.
        noise_std: of the validation recordings, for unpaired schedules; see `denoise`.
    """

    def __init__(
        self, loss: nn.Module, *, last_time: float = 0.0, noise_std: float | None = None
    ) -> None:
        super().__init__(loss)
        self.last_time, self.noise_std = last_time, noise_std

    def times(self, schedule: Schedule, size: int, generator: torch.Generator) -> Tensor:
        return times_of(schedule, size, generator, last_time=self.last_time)

    def score(self, denoiser: NetworkDenoiser, held: Held) -> Tensor:
        rows = held.noisy.reshape(-1, held.noisy.shape[-1])
        missing = None if held.missing is None else held.missing.reshape(rows.shape)
        estimate = denoise(
            denoiser,
            rows,
            sample_rate=denoiser.sample_rate,
            noise_std=self.noise_std,
            missing=missing,
        )
        return si_sdr(estimate, held.clean.reshape(estimate.shape)).mean()


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

    def score(self, denoiser: NetworkDenoiser, held: Held) -> Tensor:
        """The SNR of the estimates of a recording (B, C, L) out of noise as strong as it, in dB."""
        x = held.clean
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        errors, _ = squared_errors(denoiser, x, torch.ones(1, 1, 1), z)
        return 10 * torch.log10(x.square().mean() / errors.mean())


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Turns autocast off, on the devices that know it."""
    if device.type in ("cpu", "cuda"):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


class Generative(Regression):
    """Learns at times with a normal log-SNR of the flow.

        t = sigmoid(u),  u ~ N(0, 1)

    so that most of the training lies between signal and noise (Esser and others 2024,
    arXiv:2403.03206).
    """

    #: Times at which held-out signals are scored.
    TIMES = (0.2, 0.4, 0.6, 0.8)

    def times(self, schedule: Schedule, size: int, generator: torch.Generator) -> Tensor:
        u = torch.randn((size, 1, 1), generator=generator)
        return schedule.t_min + (schedule.t_max - schedule.t_min) * torch.sigmoid(u)

    def score(self, denoiser: NetworkDenoiser, held: Held) -> Tensor:
        """Less the error, in dB of the training loss's units, a mean over `TIMES`."""
        x_0 = denoiser.codec.encode(held.clean.reshape(1, 1, -1))
        generator, errors = torch.Generator().manual_seed(0), []
        for time in self.TIMES:
            t = torch.full((1, 1, 1), time).to(x_0)
            alpha, _, sigma = denoiser.schedule(t)
            x_t = alpha * x_0 + sigma * torch.randn(x_0.shape, generator=generator).to(x_0)
            with torch.no_grad():
                error = denoiser(x_t, t) - x_0
            errors.append((denoiser.loss_weight(t) * error.square()).mean())
        return -10 * torch.log10(torch.stack(errors).mean())


class Vocoding(Objective):
    """Magnitudes from mel frames: a bridge from the pseudo-inverse's, at random times.

    Args:
        loss: see `losses.MagnitudeError`.
        last_time: share of the clips at the last time, where one-step vocoding is learnt.
        jitter: deviation of the loudness, natural logarithm of power.
    """

    #: What a silent clip is lifted by, at most: natural logarithm of power.
    MOST_LIFTED = 12.0

    def __init__(self, loss: nn.Module, *, last_time: float = 0.6, jitter: float = 0.7) -> None:
        super().__init__()
        self.loss, self.last_time, self.jitter = loss, last_time, jitter

    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        mel, codec = require_vocoder(denoiser)
        clean = padded(batch.clean[:, 0], mel)
        log_mel = mel(clean)
        jitter = self.jitter * torch.randn((len(clean), 1, 1), generator=generator).to(clean)
        lift = (jitter - scale_of(log_mel)).clamp_max(self.MOST_LIFTED)
        signal = clean[:, None] * (lift / 2).exp()
        t = times_of(denoiser.schedule, len(clean), generator, last_time=self.last_time).to(clean)
        return compared(
            denoiser,
            self.loss,
            codec.encode(signal),
            t,
            generator,
            signal=signal,
            y=codec.compressed(mel.magnitudes(log_mel + lift)),
            cond=conditioner(log_mel + lift),
        )

    def score(self, denoiser: NetworkDenoiser, held: Held) -> Tensor:
        """Less the log-spectral distance of what one step makes of the recording's own frames."""
        mel, _ = require_vocoder(denoiser)
        x = padded(held.clean.reshape(1, -1).cpu(), mel)
        sound = vocode(denoiser, mel(x)[0])
        return -log_spectral_distance(torch.from_numpy(sound), x[0, : len(sound)])


class Stepwise(Regression):
    """Learns at the schedule's own steps n, t = n / steps."""

    #: Shares of the steps at which held-out signals are scored.
    SCORED = (0.02, 0.1, 0.25, 0.5, 1.0)

    def times(self, schedule: Schedule, size: int, generator: torch.Generator) -> Tensor:
        steps = _steps(schedule)
        return torch.randint(1, steps + 1, (size, 1, 1), generator=generator) / steps

    def score(self, denoiser: NetworkDenoiser, held: Held) -> Tensor:
        """Less the absolute error of the estimated noise, in dB, of a signal (1, 256 N)."""
        steps, mel, clean = _steps(denoiser.schedule), mel_of(denoiser), held.clean
        x_0 = clean.reshape(1, 1, -1).expand(len(self.SCORED), -1, -1)
        cond = mel(clean.reshape(1, -1))[..., : clean.shape[-1] // mel.hop]
        t = (steps * torch.tensor(self.SCORED)).ceil().reshape(-1, 1, 1).to(x_0) / steps
        with torch.no_grad():
            (error,) = compared(
                denoiser,
                AbsoluteError(),
                x_0,
                t,
                torch.Generator().manual_seed(0),
                signal=x_0,
                cond=cond.expand(len(x_0), -1, -1),
            ).values()
        return -20 * torch.log10(error)


def _steps(schedule: Schedule) -> int:
    if not isinstance(schedule, DiscreteVariancePreserving):
        raise InputError("this objective counts steps: use schedule=discrete_vp")
    return schedule.steps
