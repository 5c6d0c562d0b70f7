"""What the training of DiffWave minimises: errors at the steps of a discrete schedule."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signal_diffusion.data.mixing import Batch
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.losses import AbsoluteError
from signal_diffusion.objectives import Objective, compared
from signal_diffusion.schedules import DiscreteVariancePreserving
from signal_diffusion.tasks.diffwave import mel_of


class Stepwise(Objective):
    """Draws one of the schedule's steps n, forms x_t at t = n / steps and compares x_hat with x_0.

    Args:
        loss: see `losses`.
    """

    #: Shares of the steps at which held-out signals are scored.
    SCORED = (0.02, 0.1, 0.25, 0.5, 1.0)

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        steps, x_0 = _steps_of(denoiser), batch.clean
        drawn = torch.randint(1, steps + 1, (len(x_0), 1, 1), generator=generator)
        t = (drawn / steps).to(x_0)
        return compared(denoiser, self.loss, x_0, t, generator, signal=x_0, cond=batch.cond)

    def score(
        self,
        denoiser: NetworkDenoiser,
        clean: Tensor,
        noisy: Tensor,
        missing: Tensor | None = None,
    ) -> Tensor:
        """Less the absolute error of the estimated noise, in dB, of a signal (1, 256 N)."""
        steps, mel = _steps_of(denoiser), mel_of(denoiser)
        x_0 = clean.reshape(1, 1, -1).expand(len(self.SCORED), -1, -1)
        cond = mel(clean.reshape(1, -1))[..., : clean.shape[-1] // mel.hop]
        t = (steps * torch.tensor(self.SCORED)).ceil().reshape(-1, 1, 1).to(x_0) / steps
        with torch.no_grad():
            (error,) = compared(
                denoiser, AbsoluteError(), x_0, t, torch.Generator().manual_seed(0),
                signal=x_0, cond=cond.expand(len(x_0), -1, -1),
            ).values()  # fmt: skip
        return -20 * torch.log10(error)


def _steps_of(denoiser: NetworkDenoiser) -> int:
    schedule = denoiser.schedule
    if not isinstance(schedule, DiscreteVariancePreserving):
        raise InputError("this objective counts steps: use schedule=discrete_vp")
    return schedule.steps
