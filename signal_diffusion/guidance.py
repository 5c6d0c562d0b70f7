"""Denoisers that wrap another denoiser: with guidance, or on another schedule's grid."""

from __future__ import annotations

import torch
from torch import Tensor

from signal_diffusion.denoiser import TRAITS, Denoiser, Kind
from signal_diffusion.errors import InputError
from signal_diffusion.schedules import Schedule


class Wrapper(Denoiser):
    """A denoiser of the same recordings and of the same kind as the one that it wraps.

    Args:
        denoiser: the wrapped one, whose recording traits all are passed on.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        for name in TRAITS:
            setattr(self, name, getattr(denoiser.recording, name))

    @property
    def kind(self) -> Kind:
        return self.denoiser.kind

    @property
    def hop(self) -> int:
        return self.denoiser.hop

    def context(self, calls: int = 1) -> tuple[int, int] | None:
        return self.denoiser.context(calls)


class ClassifierFree(Wrapper):
    """Guidance without a classifier: estimates are pulled away from those without a condition.

        x_hat = D(x_t, nothing) + scale (D(x_t, cond) - D(x_t, nothing))

    A scale of 1 is the model's own distribution, 0 ignores the condition, more than 1 follows it
    more closely and makes signals more alike. Ho and Salimans 2022, arXiv:2207.12598.

    Args:
        denoiser: trained with and without conditions; zeros stand for no condition.
        scale: finite.
    """

    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        super().__init__(denoiser)
        if not -100 <= scale <= 100:
            raise InputError(f"guidance is {scale}; choose a number such as 1 to 4")
        self.scale = scale

    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        if cond is None or self.scale == 1:
            return self.denoiser(x_t, t, y, cond)
        both = torch.cat([cond, torch.zeros_like(cond)])
        twice = None if y is None else torch.cat([y, y])
        conditioned, free = self.denoiser(torch.cat([x_t, x_t]), t, twice, both).chunk(2)
        return free + self.scale * (conditioned - free)


class Rescheduled(Wrapper):
    """A denoiser of one unpaired schedule, driven on another's grid by matching log-SNR.

    With alpha', sigma' the schedule that it was trained on and t' the time of equal log-SNR,
    `x_hat = denoiser(x_t alpha'(t') / alpha(t), t')`.

    Args:
        denoiser: the denoiser to drive.
        schedule: the schedule whose times and states it takes now.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule) -> None:
        if denoiser.schedule.paired or schedule.paired:
            raise InputError("only unpaired schedules can be exchanged: a paired one moves y too")
        super().__init__(denoiser)
        self.schedule = schedule

    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        t = torch.as_tensor(t, device=x_t.device)
        alpha = self.schedule(t)[0]
        matched = self.denoiser.schedule.time_at(self.schedule.log_snr(t))
        scale = self.denoiser.schedule(matched)[0] / alpha
        return self.denoiser((scale * x_t).to(x_t.dtype), matched, y, cond)
