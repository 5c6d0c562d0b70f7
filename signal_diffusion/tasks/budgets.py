"""How many calls of a denoiser samplers make, and what of that is worth measuring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.gaussian import GaussianDenoiser
from signal_diffusion.noise import Noise
from signal_diffusion.schedules import Schedule, power_grid

Sampler = Callable[..., Tensor]
Row = dict[str, Any]

SAMPLERS: tuple[Sampler, ...] = (
    samplers.ddim, samplers.ddpm, samplers.few_step, samplers.heun, samplers.dpmpp_2m,
)  # fmt: skip
#: What stands for all samplers, where they do the same.
EVERY = "every"


def calls_of(sampler: Sampler, schedule: Schedule, steps: int) -> int:
    """Calls of the denoiser that a sampler really makes on a grid of so many times of a schedule.

    >>> from signal_diffusion.schedules import RectifiedFlow
    >>> calls_of(samplers.heun, RectifiedFlow(), 3)
    5
    """
    x = torch.ones(1, 1, 1)
    calls: list[int] = []
    oracle = GaussianDenoiser(schedule, variance=x[0, 0], noise_variance=x[0, 0])
    oracle.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        sampler(
            oracle, x, power_grid(schedule, steps), y=x, noise=Noise(0, rows=[(0, 0)], channels=1)
        )
    return len(calls)


def points(
    schedule: Schedule, budgets: Sequence[int], which: Sequence[Sampler] = SAMPLERS
) -> Iterator[tuple[Row, Sampler, int]]:
    """What is to be measured: its description, the sampler, and its most steps in a budget.

    Args:
        schedule: the process.
        budgets: calls of the denoiser, at most.
        which: samplers; what is the same for several of the package's is told once, of `EVERY`.
    """
    same = _alike(schedule, which)
    for steps in (n for n in range(1, same + 1) if n in budgets):
        yield {"sampler": EVERY, "budget": steps, "calls": steps}, which[0], steps
    for budget in budgets:
        for sampler in which:
            calls = {n: calls_of(sampler, schedule, n) for n in range(1, budget + 1)}
            steps = max((n for n, count in calls.items() if count <= budget), default=0)
            if steps > same:
                row = {"sampler": sampler.__name__, "budget": budget, "calls": calls[steps]}
                yield row, sampler, steps


def _alike(schedule: Schedule, which: Sequence[Sampler]) -> int:
    """Steps up to which all of some samplers do the same."""
    if len(which) < 2 or not set(which) <= set(SAMPLERS):
        return 0
    # Where the start is certain, all that comes after the first call is drawn by every sampler.
    return 2 if schedule(torch.tensor(schedule.t_start))[2] == 0 else 1
