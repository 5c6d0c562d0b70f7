"""Draw signals from nothing but noise, into arrays or files."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.audio.provenance import provenance, write_generated
from signal_diffusion.conditions import Value, encoded
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.files.atomic import failures
from signal_diffusion.files.npz import writing_npz
from signal_diffusion.guidance import ClassifierFree
from signal_diffusion.nn.frames import signals_of
from signal_diffusion.noise import Noise
from signal_diffusion.plots.grid import MOST, draw_grid
from signal_diffusion.samplers import Progress
from signal_diffusion.schedules import power_grid
from signal_diffusion.streaming.pieces import part_of
from signal_diffusion.streaming.settings import require_number, require_whole

#: Signals that are computed at once: matrix products round otherwise for another number of rows.
BATCH = 1
#: Calls of the network, from where on more change little (benchmarks/sampling_steps.py).
STEPS = 16
#: Pull of the conditions.
GUIDANCE = 1.5


def generate(
    denoiser: NetworkDenoiser,
    *,
    requested: Sequence[Mapping[str, Value]] = ({},),
    draws: Sequence[int] | None = None,
    length: int | None = None,
    steps: int = STEPS,
    sampler: Callable[..., Tensor] | str = samplers.ddim,
    guidance: float = GUIDANCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Array:
    """Signals (n, L) at the model's rate, each a function of its values, its draw and the seed.

    Args:
        denoiser: of an unpaired schedule, such as the shipped `digits`.
        requested: values of each signal by the names of the model's conditions; what is not named
            is left open.
        draws: numbers of the signals: the same number has the same noise, whatever the batch or
            the condition. None counts from 0.
        length: samples; None takes the model's own.
        steps: times of the grid; with `ddim`, calls of the network.
        sampler: a function of `samplers`, its name, or a function of the same form.
        guidance: pull of the conditions, see `guidance.ClassifierFree`.
        seed: of the noise.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: the model is no generator, or a condition or setting can't be used.
    """
    sampler = samplers.sampler_named(sampler)
    own = require_generator(denoiser)
    require_whole("length", length, least=denoiser.codec.hop)
    length = own if length is None else length
    require_whole("steps", steps, least=1)
    require_whole("seed", seed, least=0)
    numbers = list(range(len(requested)) if draws is None else draws)
    cond = encoded(denoiser.conditions, requested)
    guided = ClassifierFree(denoiser, guidance)
    codec, device = denoiser.codec, next(denoiser.parameters()).device
    times = power_grid(guided.schedule, steps, power=1.0)
    frames = codec.encode(torch.zeros(1, 1, length)).shape[-1]
    starts, parts = range(0, len(numbers), BATCH), [np.zeros((0, length), np.float32)]
    for index, n in enumerate(starts):
        rows = [(0, number) for number in numbers[n : n + BATCH]]
        noise = Noise(seed, rows=rows, channels=codec.state_channels(1))
        x = samplers.initial_state(
            guided.schedule,
            times[0],
            noise=noise,
            start=0,
            length=frames,
            sigma_data=denoiser.sigma_data,
        )
        c = None if cond is None else cond[n : n + BATCH].to(device)
        report = part_of(progress, index, len(starts))
        with torch.no_grad():
            state = sampler(guided, x.to(device), times, cond=c, noise=noise, progress=report)
            signals = signals_of(codec, state, length)
        parts.append(signals / np.maximum(np.abs(signals).max(axis=1, keepdims=True), 1))
    return np.concatenate(parts)


def combinations(
    lists: Mapping[str, Sequence[Value]], count: int
) -> tuple[list[dict[str, Value]], list[int]]:
    """What is asked for `count` signals of each combination of values, and their draws.

    >>> combinations({"class": ["one", "two"]}, 2)[0]
    [{'class': 'one'}, {'class': 'one'}, {'class': 'two'}, {'class': 'two'}]
    """
    names = list(lists)
    values = [dict(zip(names, part, strict=True)) for part in product(*lists.values())]
    wanted = [one for one in values for _ in range(count)]
    return wanted, list(range(count)) * len(values)


def require_generator(denoiser: NetworkDenoiser) -> int:
    """Samples of the signals that a generator draws.

    Raises:
        InputError: the model is no generator.
    """
    if denoiser.kind != "generator" or denoiser.length is None or denoiser.schedule.paired:
        raise InputError("this model denoises, it draws no signals: choose a generator")
    channels = denoiser.codec.state_channels(1)
    if getattr(denoiser.backbone, "state_channels", channels) != channels:
        raise InputError("this model draws several channels at once: choose one that draws one")
    return denoiser.length


#: Signals that are drawn before they are written.
TOGETHER = 256
#: Signals of one run, samples of each, and samples of all in one NPZ, at most.
MOST_SIGNALS, MOST_SAMPLES, MOST_TOGETHER = 100_000, 1 << 24, 1 << 28


@dataclass(frozen=True)
class Drawing:
    """What is drawn: `count` signals of every combination of the values that are asked for.

    Args:
        model: name or path, for the provenance.
        lists: values by the names of the model's conditions.
        count: signals of each combination.
        seconds: length; None takes the model's own.
        seed, steps, sampler, guidance: see `tasks.generate.generate`.
    """

    model: str
    lists: Mapping[str, Sequence[Value]]
    count: int = 1
    seconds: float | None = None
    seed: int = 0
    steps: int = STEPS
    sampler: Callable[..., Tensor] = samplers.ddim
    guidance: float = GUIDANCE

    def __post_init__(self) -> None:
        require_number("length", self.seconds)
        signals = self.count * math.prod(map(len, self.lists.values()))
        if not 1 <= signals <= MOST_SIGNALS:
            raise InputError(f"{signals} signals are asked for: ask for 1 to {MOST_SIGNALS}")

    def samples(self, rate: int) -> int | None:
        """Samples of a signal; None for the model's own."""
        if self.seconds is None:
            return None
        if not 0 <= self.seconds * rate <= MOST_SAMPLES:
            longest = MOST_SAMPLES / rate
            raise InputError(f"length is {self.seconds:g} s; it goes up to {longest:.0f} s")
        return round(self.seconds * rate)

    def origin(self, **more: Any) -> dict[str, Any]:
        """The provenance of all signals, or of one."""
        return provenance(
            self.model,
            seed=self.seed,
            steps=self.steps,
            sampler=self.sampler.__name__,
            guidance=self.guidance,
            **more,
        )


@dataclass(frozen=True)
class Item:
    """One signal: what it is to be, the number of its draw, and its file."""

    values: Mapping[str, Value]
    draw: int
    path: Path


#: A signal (L,) with its description.
Drawn = tuple[Item, Array]


@dataclass(frozen=True)
class DrawnReport:
    """What was written: how many signals, of how many seconds each, in how many seconds."""

    output: str
    drawn: int
    skipped: int
    seconds: float
    taken: float


def draw_files(
    denoiser: NetworkDenoiser,
    drawing: Drawing,
    output: Path,
    *,
    format: str = "wav",
    plot: Path | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> DrawnReport:
    """Draw signals into a folder, into one audio file, or into an NPZ; each appears whole.

    Args:
        denoiser: a generator.
        drawing: what is drawn.
        output: a folder, which is made; a file of `format`, for one signal; or an NPZ for all, with
            `signals` (n, L), `sample_rate`, a list for each condition, and `provenance`.
        format: suffix of audio files.
        plot: PNG of the first signals' spectrograms.
        force: replace files that exist.
        resume: keep audio files that exist.
        progress: called as progress(done calls, all calls).

    Raises:
        InputError: something can't be drawn or written.
    """
    began = time.perf_counter()
    rate = denoiser.sample_rate
    if rate is None:
        raise InputError("this model has no sample rate, which files need")
    items = _items(drawing, output, format)
    pending = [item for item in items if not (resume and os.path.exists(item.path))]
    _require_new(output, [item.path for item in pending], force=force)
    length = drawing.samples(rate) or denoiser.length or 0
    if output.suffix.lower() == ".npz" and len(items) * length > MOST_TOGETHER:
        raise InputError(
            f"{len(items)} signals of {length} samples are more than an NPZ takes: name a folder"
        )
    drawn = _drawn(denoiser, drawing, pending, rate, progress)
    if output.suffix.lower() == ".npz":
        first = _into_npz(drawn, output, drawing, rate, force)
    else:
        first = _into_files(drawn, drawing, rate, force or resume)
    if plot is not None and first:
        names = [item.path.stem for item, _ in first]
        draw_grid(plot, [x for _, x in first], names, rate, force=force)
    taken = time.perf_counter() - began
    return DrawnReport(str(output), len(pending), len(items) - len(pending), length / rate, taken)


def _items(drawing: Drawing, output: Path, format: str) -> list[Item]:
    wanted, draws = combinations(drawing.lists, drawing.count)
    if output.suffix.lower().lstrip(".") not in ("", "npz"):
        if len(wanted) > 1:
            raise InputError(f"{output} is one file, but {len(wanted)} signals are asked for")
        return [Item(wanted[0], draws[0], output)]
    items = []
    for one, draw in zip(wanted, draws, strict=True):
        words = [f"{v:g}" if isinstance(v, (int, float)) else str(v) for v in one.values()]
        # Names of a model's conditions must not lead out of the folder.
        stem = re.sub(r"[^\w .+-]", "_", "_".join(words)) or Path(drawing.model).stem
        items.append(Item(one, draw, output / f"{stem}_{draw:03d}.{format}"))
    return items


def _require_new(output: Path, paths: Sequence[Path], *, force: bool) -> None:
    if output.suffix:
        paths = [output]
    elif os.path.exists(output) and not os.path.isdir(output):
        raise InputError(f"{output} is a file: name a folder")
    there = [path for path in paths if os.path.exists(path)]
    if there and not force:
        raise InputError(
            f"{there[0]} exists: pass --force to replace it, or --resume to keep what is there"
        )


def _drawn(
    denoiser: NetworkDenoiser,
    drawing: Drawing,
    items: Sequence[Item],
    rate: int,
    progress: Progress | None,
) -> Iterator[Drawn]:
    """Items with their signals (L,), a group at a time."""
    length = drawing.samples(rate)
    starts = range(0, len(items), TOGETHER)
    for index, start in enumerate(starts):
        part = items[start : start + TOGETHER]
        signals = generate(
            denoiser,
            requested=[item.values for item in part],
            draws=[item.draw for item in part],
            length=length,
            steps=drawing.steps,
            sampler=drawing.sampler,
            guidance=drawing.guidance,
            seed=drawing.seed,
            progress=part_of(progress, index, len(starts)),
        )
        yield from zip(part, signals, strict=True)


def _into_files(drawn: Iterator[Drawn], drawing: Drawing, rate: int, force: bool) -> list[Drawn]:
    first: list[Drawn] = []
    for number, (item, signal) in enumerate(drawn):
        if not number:
            with failures(item.path):
                os.makedirs(item.path.parent, exist_ok=True)
        origin = drawing.origin(condition=dict(item.values), draw=item.draw)
        write_generated(item.path, signal[None], rate, origin, force=force)
        if len(first) < MOST:
            first.append((item, signal))
    return first


def _into_npz(
    drawn: Iterator[Drawn], output: Path, drawing: Drawing, rate: int, force: bool
) -> list[Drawn]:
    pairs = list(drawn)
    with writing_npz(output, [], 1, force=force) as arrays:
        arrays.put("signals", np.stack([signal for _, signal in pairs]))
        arrays.put("sample_rate", rate)
        arrays.put("provenance", json.dumps(drawing.origin()))
        for name in drawing.lists:
            arrays.put(name, np.array([item.values[name] for item, _ in pairs]))
    return pairs[:MOST]
