"""What the training of generators and vocoders minimises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signal_diffusion.data.mixing import Batch
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.mel import conditioner, padded, scale_of
from signal_diffusion.metrics import log_spectral_distance
from signal_diffusion.objectives import Objective, compared, times_of
from signal_diffusion.tasks.vocode import require_vocoder, vocode


class Generative(Objective):
    """Draws t with a normal log-SNR of the flow, forms x_t and compares x_hat with x_0.

        t = sigmoid(u),  u ~ N(0, 1)

    so that most of the training lies between signal and noise (Esser and others 2024,
    arXiv:2403.03206).

    Args:
        loss: see `losses`.
    """

    #: Times at which held-out signals are scored.
    TIMES = (0.2, 0.4, 0.6, 0.8)

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        schedule = denoiser.schedule
        x_0 = denoiser.codec.encode(batch.clean)
        u = torch.randn((len(x_0), 1, 1), generator=generator).to(x_0)
        t = schedule.t_min + (schedule.t_max - schedule.t_min) * torch.sigmoid(u)
        return compared(denoiser, self.loss, x_0, t, generator, signal=batch.clean, cond=batch.cond)

    def score(
        self,
        denoiser: NetworkDenoiser,
        clean: Tensor,
        noisy: Tensor,
        missing: Tensor | None = None,
    ) -> Tensor:
        """Less the error, in dB of the training loss's units, a mean over `TIMES`."""
        x_0 = denoiser.codec.encode(clean.reshape(1, 1, -1))
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
            denoiser, self.loss, codec.encode(signal), t, generator, signal=signal,
            y=codec.compressed(mel.magnitudes(log_mel + lift)), cond=conditioner(log_mel + lift),
        )  # fmt: skip

    def score(
        self,
        denoiser: NetworkDenoiser,
        clean: Tensor,
        noisy: Tensor,
        missing: Tensor | None = None,
    ) -> Tensor:
        """Less the log-spectral distance of what one step makes of the recording's own frames."""
        mel, _ = require_vocoder(denoiser)
        x = padded(clean.reshape(1, -1).cpu(), mel)
        sound = vocode(denoiser, mel(x)[0])
        return -log_spectral_distance(torch.from_numpy(sound), x[0, : len(sound)])
