"""Denoisers that wrap another one and pull its estimates somewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from signal_diffusion.denoiser import Denoiser
from signal_diffusion.errors import InputError


class ClassifierFree(Denoiser):
    """Guidance without a classifier: away from what a signal would be if nothing was asked for.

        x_hat = D(x_t, nothing) + scale (D(x_t, cond) - D(x_t, nothing))

    A scale of 1 is the model's own distribution, 0 ignores the condition, more than 1 makes what
    was asked for plainer and the signals more alike. Ho and Salimans 2022, arXiv:2207.12598.

    Args:
        denoiser: trained with and without conditions; zeros ask for nothing.
        scale: finite.
    """

    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        super().__init__()
        if not -100 <= scale <= 100:
            raise InputError(f"guidance is {scale}; choose a number such as 1 to 4")
        self.denoiser, self.scale = denoiser, scale
        self.schedule, self.sample_rate = denoiser.schedule, denoiser.sample_rate
        self.domain = denoiser.domain

    @property
    def hop(self) -> int:
        return self.denoiser.hop

    def context(self, calls: int = 1) -> tuple[int, int] | None:
        return self.denoiser.context(calls)

    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        if cond is None or self.scale == 1:
            return self.denoiser(x_t, t, y, cond)
        both = torch.cat([cond, torch.zeros_like(cond)])
        twice = None if y is None else torch.cat([y, y])
        asked, free = self.denoiser(torch.cat([x_t, x_t]), t, twice, both).chunk(2)
        return free + self.scale * (asked - free)
