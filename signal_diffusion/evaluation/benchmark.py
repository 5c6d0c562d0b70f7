"""Quality against calls of the network against time, for the ways that a model can be used in.

Quality goes by the sampler and its calls alone, since pieces equal the whole and threads only
round otherwise; time goes by pieces and threads, too. Each is a row of its own.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.audio import opened
from signal_diffusion.data.corpus import list_folder
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.resampling import resample
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.measures import METRICS, metrics_named
from signal_diffusion.evaluation.pairs import Pair, folder_pairs
from signal_diffusion.evaluation.plan import takes_readings
from signal_diffusion.evaluation.readings import shape_of
from signal_diffusion.files.journal import Job
from signal_diffusion.nn.diffwave import DiffWave
from signal_diffusion.nn.magnitudes import Magnitudes
from signal_diffusion.schedules import Schedule
from signal_diffusion.streaming.background import quickest, threads
from signal_diffusion.streaming.pieces import PIECE
from signal_diffusion.tables import is_table, opened_table
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.generate import GUIDANCE, generate
from signal_diffusion.tasks.vocode import vocode

Sampler = Callable[..., Tensor]


Row = dict[str, Any]

#: The samplers of this package.
SAMPLERS: tuple[Sampler, ...] = tuple(samplers.SAMPLERS.values())


#: What stands for all samplers, where they do the same.
EVERY = "every"


def _calls(sampler: Sampler, steps: int, schedule: Schedule) -> int:
    calls = samplers.network_calls(sampler, steps, schedule)
    if calls is None:
        raise InputError(
            f"sampler {sampler.__name__} does not state its calls of the network: "
            "declare it with @samplers.sampler(stages=...)"
        )
    return calls


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
            calls = {n: _calls(sampler, n, schedule) for n in range(1, budget + 1)}
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


#: Seconds of each recording that count, and samples of slow readings.
LONGEST, FEWEST = 30.0, 10_000


#: PESQ's rate.
WIDE_BAND = 16000


@dataclass(frozen=True)
class Scoring:
    """Means of some measures over examples (C, L) at a rate in Hz."""

    examples: Sequence[Example]
    measures: Sequence[str]
    sample_rate: float

    def __call__(self, estimated: Callable[[Example], Array]) -> Row:
        """The means of one way of estimating; what can't be computed is None."""
        scores = [self._of(example, estimated(example)) for example in self.examples]
        means = np.mean(scores, axis=0)
        return {
            name: float(mean) if np.isfinite(mean) else None
            for name, mean in zip(self.measures, means, strict=True)
        }

    @property
    def digest(self) -> str:
        """What tells these examples from others: 16 digits of a SHA-256."""
        found = hashlib.sha256()
        for example in self.examples:
            found.update(example.name.encode() + example.clean.tobytes())
            found.update(b"" if example.given is None else example.given.tobytes())
        return found.hexdigest()[:16]

    def _of(self, example: Example, estimate: Array) -> list[float]:
        count = min(estimate.shape[-1], example.clean.shape[-1])
        pair = estimate[:, :count], example.clean[:, :count]
        try:
            return [METRICS[name].measure(*pair, self.sample_rate) for name in self.measures]
        except InputError as error:
            raise InputError(f"{example.name}: {error}") from error


def scoring_of(
    denoiser: NetworkDenoiser, folder: Path, *, files: int, metrics: Sequence[str] | None
) -> Scoring:
    """The examples of a folder, evenly chosen, and the measures that suit the model.

    Args:
        denoiser: a denoiser, whose folder has clean/ and noisy/, of sound or of tables, or a
            vocoder, whose folder has recordings.
        folder: the data.
        files: the most that are taken.
        metrics: names of `METRICS`; None chooses.

    Raises:
        InputError: a name is unknown, or the folder holds no such recordings.
    """
    task = task_of(denoiser)
    if task == "generate":
        raise InputError(
            "this model draws signals, which have no truth to compare with: leave the data "
            "(`signal-diffusion memorisation` compares them with what it was trained on)"
        )
    if task == "vocode":
        return _of_vocoder(denoiser, folder, files, metrics)
    pairs = _some(_pairs(folder), files)
    readings = takes_readings(denoiser, denoiser.domain or "this", pairs)
    usual = [] if readings else ["si_sdr", *_pesq(denoiser)]
    names = metrics_named(metrics or usual, domain=denoiser.domain, readings=readings)
    own = shape_of(pairs[0].clean)[0] if readings else RATE
    rate = denoiser.sample_rate or own
    return Scoring([_example(pair, rate) for pair in pairs], names, rate)


def _of_vocoder(
    denoiser: NetworkDenoiser, folder: Path, files: int, metrics: Sequence[str] | None
) -> Scoring:
    rate = denoiser.sample_rate or RATE
    names = metrics_named(metrics or [*_pesq(denoiser), "lsd"])
    clips = _some(list_folder(folder), files)
    found = [Example(clip.name, None, _read(clip.path, rate)[:1]) for clip in clips]
    return Scoring(found, names, rate)


def _pesq(denoiser: NetworkDenoiser) -> list[str]:
    """PESQ, for models of such speech, where it is installed."""
    heard = denoiser.domain == "speech" and denoiser.sample_rate == WIDE_BAND
    return ["pesq"] if heard and importlib.util.find_spec("pesq") is not None else []


def _pairs(folder: Path) -> list[Pair]:
    for name in ("clean", "noisy"):
        if not (folder / name).is_dir():
            raise InputError(
                f"{folder} has no folder {name}: give one with clean/ and noisy/, with files of "
                "the same names"
            )
    return folder_pairs(folder / "clean", folder / "noisy")


def _some(found: Sequence[Any], most: int) -> list[Any]:
    """So many at the most, evenly spread."""
    count = min(most, len(found))
    return [found[index * len(found) // count] for index in range(count)]


def _example(pair: Pair, rate: float) -> Example:
    assert pair.noisy is not None
    return Example(pair.name, _read(pair.noisy, rate), _read(pair.clean, rate))


def _read(path: Path, rate: float) -> Array:
    """The beginning (C, L) of a recording or a table at a rate."""
    own, blocks = _blocks(path)
    most = max(round(LONGEST * own), FEWEST)
    held, count = [], 0
    for block in blocks:
        held.append(block)
        count += block.shape[1]
        if count >= most:
            break
    return resample(np.concatenate(held, axis=1)[:, :most], own, rate)


def _blocks(path: Path) -> tuple[float, Iterator[Array]]:
    """The rate of a file in Hz, and what it holds, bit by bit."""

    def of_sound() -> Iterator[Array]:
        with opened(path) as reader:
            for block in reader.blocks():
                yield block.astype(np.float32, copy=False)

    def of_table() -> Iterator[Array]:
        with opened_table(path) as reader:
            yield from reader.blocks()

    return shape_of(path)[0], of_table() if is_table(path) else of_sound()
