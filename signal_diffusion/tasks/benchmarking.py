"""Quality against calls of the network against time, for the ways that a model can be used in.

Quality goes by the sampler and its calls alone, since pieces equal the whole and threads only
round otherwise; time goes by pieces and threads, too. Each is a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.nn.diffwave import DiffWave
from signal_diffusion.nn.magnitudes import Magnitudes
from signal_diffusion.tasks.budgets import SAMPLERS, Row, Sampler, points
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.generate import GUIDANCE, generate
from signal_diffusion.tasks.kept_rows import Job
from signal_diffusion.tasks.pieces import PIECE
from signal_diffusion.tasks.timing import quickest, threads
from signal_diffusion.tasks.vocode import vocode

Array = NDArray[Any]

#: Rate in Hz at which signals are timed whose model knows none.
RATE = 16000
#: Kinds of rows.
QUALITY, SPEED, TRAINING = "quality", "speed", "training"
#: What stands for a recording that is left as it came.
INPUT = "input"


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Args:
        calls: of the network, at most, for each sampler.
        samplers: functions of `samplers`, or of the same form.
        pieces: seconds that are denoised at once; None is what memory is meant for.
        threads: of torch.
        repeats: runs of which the quickest counts, after one more that warms up.
        seconds: of the recording that is timed; None is as many samples as one piece may have.
        guidance: pull of a generator's conditions.
        noise_std: of the noise, for unpaired processes that denoise.
    """

    calls: Sequence[int] = (1, 2, 4, 8)
    samplers: Sequence[Sampler] = SAMPLERS
    pieces: Sequence[float | None] = (None,)
    threads: Sequence[int] = (1,)
    repeats: int = 3
    seconds: float | None = None
    guidance: float = GUIDANCE
    noise_std: float | None = None


@dataclass(frozen=True)
class Example:
    """A recording to score on: what came (C, L), None for what has none, and the truth (C, L)."""

    name: str
    given: Array | None
    clean: Array


#: What a model makes in one way, of one signal: `work(sampler, steps, piece)`.
Work = Callable[[Sampler, int, float | None], Array]
#: How good estimates of examples are, by the names of the measures.
Score = Callable[[Callable[[Example], Array]], Row]


def task_of(denoiser: NetworkDenoiser) -> str:
    """What a model is for: denoise, vocode or generate.

    Raises:
        InputError: nothing of these.
    """
    if denoiser.mel is not None and isinstance(denoiser.codec, Magnitudes):
        return "vocode"
    if not denoiser.schedule.paired and denoiser.length is not None:
        return "generate"
    if denoiser.mel is not None or isinstance(denoiser.backbone, DiffWave):
        raise InputError("this model is no denoiser, vocoder or generator: it can't be benchmarked")
    return "denoise"


def workload(denoiser: NetworkDenoiser, plan: Plan) -> tuple[Work, float]:
    """What is timed, on white noise of the model's rate and level, and its seconds of signal.

    Raises:
        InputError: the plan doesn't fit the model.
    """
    task = task_of(denoiser)
    if task != "denoise" and any(piece is not None for piece in plan.pieces):
        raise InputError(f"piece is for denoisers, this model is for the task {task}: leave it")
    if task == "generate":
        return _drawing(denoiser, plan)
    x = made_noise(denoiser, plan.seconds)
    seconds = x.shape[-1] / (denoiser.sample_rate or RATE)
    if task == "vocode":
        return vocoding(denoiser, x), seconds
    given = plan.noise_std
    if given is None and not denoiser.schedule.paired and denoiser.noise_std is None:
        given = float(x.std())
    return denoising(denoiser, x, noise_std=given), seconds


def made_noise(denoiser: NetworkDenoiser, seconds: float | None) -> Array:
    """White noise (1, L) of the model's rate and level, always the same."""
    count = PIECE if seconds is None else round(seconds * (denoiser.sample_rate or RATE))
    level = -20.0 if denoiser.level_db is None else min(denoiser.level_db, 0.0)
    x = np.random.default_rng(0).standard_normal((1, max(count, 1)))
    return (10 ** (level / 20) * x).astype(np.float32)


def denoising(denoiser: NetworkDenoiser, x: Array, *, noise_std: float | None = None) -> Work:
    """Denoises a recording (C, L) at the model's rate."""
    return lambda sampler, steps, piece: denoise(
        denoiser, x, steps=steps, sampler=sampler, piece=piece, noise_std=noise_std
    )


def vocoding(denoiser: NetworkDenoiser, x: Array) -> Work:
    """Turns a recording (1, L) into mel frames, once, and these into sound."""
    assert denoiser.mel is not None
    frames = denoiser.mel(torch.from_numpy(x[:1]))[0]
    return lambda sampler, steps, _: vocode(denoiser, frames, steps=steps, sampler=sampler)


def _drawing(denoiser: NetworkDenoiser, plan: Plan) -> tuple[Work, float]:
    """Draws one signal of the model's own length, or of so many seconds."""
    rate = denoiser.sample_rate or RATE
    assert denoiser.length is not None
    length = denoiser.length if plan.seconds is None else max(1, round(plan.seconds * rate))
    asked = [{one.name: one.values("all")[0] for one in denoiser.conditions}]

    def work(sampler: Sampler, steps: int, _: float | None) -> Array:
        return generate(
            denoiser, asked=asked, length=length, steps=steps, sampler=sampler,
            guidance=plan.guidance,
        )  # fmt: skip

    return work, length / rate


def speed_jobs(denoiser: NetworkDenoiser, plan: Plan, of: Row) -> Iterator[Job]:
    """One job for each point, piece and number of threads.

    Args:
        denoiser: the model.
        plan: what is to be measured.
        of: what all rows tell, such as the model and the machine.
    """
    work, seconds = workload(denoiser, plan)
    told = {**of, "kind": SPEED, "seconds": seconds, "repeats": plan.repeats}
    if task_of(denoiser) == "generate":
        told |= {"guidance": plan.guidance}
    for count in plan.threads:
        for piece in plan.pieces:
            for row, sampler, steps in points(denoiser.schedule, plan.calls, plan.samplers):
                run = partial(work, sampler, steps, piece)
                asked = {**told, **row, "steps": steps, "piece": piece, "threads": count}
                yield asked, partial(_timed, run, seconds, count, plan.repeats)


def _timed(run: Callable[[], object], seconds: float, count: int, repeats: int) -> Row:
    with threads(count):
        taken = quickest(run, repeats=repeats)
    return {
        "taken": taken.seconds, "processor_seconds": taken.processor_seconds,
        "real_time_factor": taken.seconds / seconds,
    }  # fmt: skip


def quality_jobs(denoiser: NetworkDenoiser, plan: Plan, score: Score, of: Row) -> Iterator[Job]:
    """One job for the input of a denoiser, and one for each point of a denoiser or vocoder.

    Args:
        denoiser: the model.
        plan: what is to be measured.
        score: scores estimates of the examples.
        of: what all rows tell, such as the model and the data.
    """
    told = {**of, "kind": QUALITY}
    if task_of(denoiser) == "denoise":
        yield {**told, "sampler": INPUT, "calls": 0}, partial(score, _as_given)
    for row, sampler, steps in points(denoiser.schedule, plan.calls, plan.samplers):
        way = partial(_estimated, denoiser, plan.noise_std, sampler, steps)
        yield {**told, **row, "steps": steps}, partial(_scored, score, way, max(plan.threads))


def _scored(score: Score, way: Callable[[Example], Array], count: int) -> Row:
    with threads(count):
        return score(way)


def _as_given(example: Example) -> Array:
    assert example.given is not None
    return example.given


def _estimated(
    denoiser: NetworkDenoiser, noise_std: float | None, sampler: Sampler, steps: int,
    example: Example,
) -> Array:  # fmt: skip
    """The estimate (C, L) of an example, by one way of using the model."""
    if example.given is None:
        return vocoding(denoiser, example.clean)(sampler, steps, None)[None]
    return denoising(denoiser, example.given, noise_std=noise_std)(sampler, steps, None)


def joined(rows: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> list[Row]:
    """The rows of speed, each with the scores of the same sampler and calls, where there are."""
    scores = {
        (row["sampler"], row["budget"]): {name: row[name] for name in measures if name in row}
        for row in rows
        if row["kind"] == QUALITY and row["sampler"] != INPUT
    }
    some = [dict(row) for row in rows if row["kind"] == SPEED]
    return [row | scores.get((row["sampler"], row["budget"]), {}) for row in some]


def told_plan(plan: Plan) -> Row:
    """A plan as plain values."""
    names = [sampler.__name__ for sampler in plan.samplers]
    return {**asdict(plan), "samplers": names}
