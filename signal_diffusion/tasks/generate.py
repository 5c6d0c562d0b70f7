"""Draw signals from nothing but noise, and what they are to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.conditions import Value, encoded
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.guidance import ClassifierFree
from signal_diffusion.noise import Noise
from signal_diffusion.schedules import power_grid
from signal_diffusion.streaming.pieces import Progress, part_of
from signal_diffusion.streaming.settings import require_whole

#: Signals that are computed at once: matrix products round otherwise for another number of rows.
BATCH = 1
#: Calls of the network, from where on more change little (benchmarks/sampling_steps.py).
STEPS = 16
#: Pull of the conditions.
GUIDANCE = 1.5


def generate(
    denoiser: NetworkDenoiser,
    *,
    asked: Sequence[Mapping[str, Value]] = ({},),
    draws: Sequence[int] | None = None,
    length: int | None = None,
    steps: int = STEPS,
    sampler: Callable[..., Tensor] = samplers.ddim,
    guidance: float = GUIDANCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Array:
    """Signals (n, L) at the model's rate, each a function of what is asked, its draw and the seed.

    Args:
        denoiser: of an unpaired schedule, such as the shipped `digits`.
        asked: what each signal is to be, by the names of the model's conditions; what is not named
            is left open.
        draws: numbers of the signals: the same number has the same noise, whatever the batch or
            the condition. None counts from 0.
        length: samples; None takes the model's own.
        steps: times of the grid; with `ddim`, calls of the network.
        sampler: a function of `samplers`, or one of the same form.
        guidance: pull of the conditions, see `guidance.ClassifierFree`.
        seed: of the noise.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: the model is no generator, or a condition or setting can't be used.
    """
    length = _length(denoiser, length)
    require_whole("steps", steps, least=1)
    require_whole("seed", seed, least=0)
    numbers = list(range(len(asked)) if draws is None else draws)
    cond = encoded(denoiser.conditions, asked)
    guided = ClassifierFree(denoiser, guidance)
    frames = denoiser.codec.encode(torch.zeros(1, 1, length)).shape[-1]
    starts = range(0, len(numbers), BATCH)
    parts = [
        _drawn(
            guided, numbers[n : n + BATCH], None if cond is None else cond[n : n + BATCH],
            length=length, frames=frames, steps=steps, sampler=sampler, seed=seed,
            progress=part_of(progress, index, len(starts)),
        )
        for index, n in enumerate(starts)
    ]  # fmt: skip
    return np.concatenate(parts) if parts else np.zeros((0, length), np.float32)


def combinations(
    lists: Mapping[str, Sequence[Value]], count: int
) -> tuple[list[dict[str, Value]], list[int]]:
    """What is asked for `count` signals of each combination of values, and their draws.

    >>> combinations({"class": ["one", "two"]}, 2)[0]
    [{'class': 'one'}, {'class': 'one'}, {'class': 'two'}, {'class': 'two'}]
    """
    names = list(lists)
    values = [dict(zip(names, some, strict=True)) for some in product(*lists.values())]
    asked = [one for one in values for _ in range(count)]
    return asked, list(range(count)) * len(values)


def _drawn(
    guided: ClassifierFree,
    numbers: Sequence[int],
    cond: Tensor | None,
    *,
    length: int,
    frames: int,
    steps: int,
    sampler: Callable[..., Tensor],
    seed: int,
    progress: Progress | None,
) -> Array:
    denoiser: Any = guided.denoiser
    device = next(denoiser.parameters()).device
    channels = denoiser.codec.state_channels(1)
    noise = Noise(seed, rows=[(0, number) for number in numbers], channels=channels)
    times = power_grid(guided.schedule, steps, power=1.0)
    x = samplers.initial_state(
        guided.schedule, times[0], noise=noise, start=0, length=frames,
        sigma_data=denoiser.sigma_data,
    )  # fmt: skip
    cond = None if cond is None else cond.to(device)
    with torch.no_grad():
        state = sampler(guided, x.to(device), times, cond=cond, noise=noise, progress=progress)
        signals: Array = denoiser.codec.decode(state, length)[:, 0].float().cpu().numpy()
    return signals / np.maximum(np.abs(signals).max(axis=1, keepdims=True), 1)


def require_generator(denoiser: NetworkDenoiser) -> int:
    """Samples of the signals that a generator draws.

    Raises:
        InputError: the model is no generator.
    """
    if denoiser.kind != "generator" or denoiser.length is None or denoiser.schedule.paired:
        raise InputError("this model denoises, it draws no signals: choose a generator")
    return denoiser.length


def _length(denoiser: NetworkDenoiser, length: int | None) -> int:
    own = require_generator(denoiser)
    if length is None:
        return own
    require_whole("length", length, least=denoiser.codec.hop)
    return length
