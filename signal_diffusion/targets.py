"""What a network may be asked for, and how the clean estimate follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from signal_diffusion.schedules import Marginal, Schedule

Coefficients = tuple[Tensor, Tensor]


def _clean(schedule: Schedule, t: Tensor, sigma_data: float) -> Coefficients:
    return torch.zeros_like(t), torch.ones_like(t)


def _noise(schedule: Schedule, t: Tensor, sigma_data: float) -> Coefficients:
    alpha, _, sigma = schedule(t)
    return 1 / alpha, -sigma / alpha


def _v(schedule: Schedule, t: Tensor, sigma_data: float) -> Coefficients:
    alpha, _, sigma = schedule(t)
    total = alpha**2 + sigma**2
    return alpha / total, -sigma / total


def _score(schedule: Schedule, t: Tensor, sigma_data: float) -> Coefficients:
    alpha, _, sigma = schedule(t)
    return 1 / alpha, sigma**2 / alpha


def _flow(schedule: Schedule, t: Tensor, sigma_data: float) -> Coefficients:
    moved = torch.func.jvp(schedule, (t,), (torch.ones_like(t),))
    (alpha, _, sigma), (d_alpha, _, d_sigma) = cast("tuple[Marginal, Marginal]", moved)
    total = alpha * d_sigma - sigma * d_alpha
    return d_sigma / total, -sigma / total


def _edm(schedule: Schedule, t: Tensor, sigma_data: float) -> Coefficients:
    alpha, _, sigma = schedule(t)
    total = alpha**2 * sigma_data**2 + sigma**2
    return alpha * sigma_data**2 / total, sigma * sigma_data / total.sqrt()


#: What a network is asked for, as x_hat = c_skip (x_t - beta y) + c_out F: x_0 itself, the noise z,
#: v = alpha z - sigma x_0, the score -z / sigma, the flow x_t' = alpha' x_0 + sigma' z, or the unit
#: variance target of Karras and others 2022 (arXiv:2206.00364).
TARGETS: dict[str, Callable[[Schedule, Tensor, float], Coefficients]] = {
    "clean": _clean,
    "noise": _noise,
    "v": _v,
    "score": _score,
    "flow": _flow,
    "edm": _edm,
}
