"""Quality against network calls against time, for the samplers and settings of a model.

Quality depends on the sampler and its calls alone, since pieces equal the whole and threads only
round otherwise: `run.evaluate` measures it. Time depends on pieces and threads, too.
"""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp import Array
from signal_diffusion.errors import InputError
from signal_diffusion.evaluation.measures import metrics_named
from signal_diffusion.evaluation.methods import Method, Modelled, Untouched
from signal_diffusion.evaluation.outputs import data_description, machine
from signal_diffusion.evaluation.pairs import Pair
from signal_diffusion.evaluation.plan import Sources, takes_readings
from signal_diffusion.evaluation.run import ROWS, evaluate
from signal_diffusion.evaluation.summary import by_column
from signal_diffusion.files import artifact
from signal_diffusion.files.journal import Job, Row, measured
from signal_diffusion.nn.diffwave import DiffWave
from signal_diffusion.nn.magnitudes import Magnitudes
from signal_diffusion.schedules import Schedule
from signal_diffusion.streaming.background import quickest, threads
from signal_diffusion.streaming.engine import require_process
from signal_diffusion.streaming.pieces import PIECE, Progress, part_of
from signal_diffusion.streaming.settings import Settings
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.generate import GUIDANCE, generate, require_generator
from signal_diffusion.tasks.vocode import require_vocoder, vocode

Sampler = Callable[..., Tensor]

#: The samplers of this package.
SAMPLERS: tuple[Sampler, ...] = tuple(samplers.SAMPLERS.values())
#: The name of a row that stands for all samplers, where they do the same.
EVERY = "every"
#: The name of a recording that is left as it came.
INPUT = "input"
#: Kinds of rows.
QUALITY, SPEED, TRAINING = "quality", "speed", "training"
#: Rows of times, and of scores.
JOURNALS = (ROWS, f"scores/{ROWS}")
#: Rate in Hz at which models without a rate of their own are timed, and that of wide-band PESQ.
RATE = 16000
#: Seconds of each recording that are scored.
LONGEST = 30.0


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        calls: most network calls of each sampler.
        samplers: functions of `samplers`, or of the same form.
        pieces: seconds that are denoised at once; None is what memory is meant for.
        threads: numbers of torch threads.
        repeats: runs of which the quickest counts, after one more that warms up.
        seconds: length of the signal that is timed; None is as many samples as one piece may have.
        guidance: strength of a generator's conditions.
        noise_std: standard deviation of the noise, for unpaired processes that denoise.
    """

    calls: Sequence[int] = (1, 2, 4, 8)
    samplers: Sequence[Sampler] = SAMPLERS
    pieces: Sequence[float | None] = (None,)
    threads: Sequence[int] = (1,)
    repeats: int = 3
    seconds: float | None = None
    guidance: float = GUIDANCE
    noise_std: float | None = None

    @property
    def described(self) -> Row:
        """The plan as plain values."""
        return {**asdict(self), "samplers": [sampler.__name__ for sampler in self.samplers]}


@dataclass(frozen=True)
class Data:
    """Pairs of recordings and the names of the metrics that are measured on them."""

    pairs: Sequence[Pair]
    metrics: Sequence[str]


def benchmark_model(
    denoiser: NetworkDenoiser,
    model: str,
    plan: Plan,
    folder: Path,
    *,
    data: Data | None = None,
    training: Sequence[str] = (),
    training_steps: int = 10,
    begin: Callable[[], object] = lambda: None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure what a plan describes; rows are kept in a folder, from which a stopped run goes on.

    Args:
        denoiser: the model, on its device.
        model: its name or file.
        plan: calls, samplers, pieces and threads.
        folder: of the journals.
        data: recordings to score, see `data_of`; None measures time alone.
        training: overrides of a run whose steps are timed; none times no training.
        training_steps: number of steps that are timed.
        begin: makes the folder; called when nothing is left that could be wrong with the input.
        progress: called as progress(done, all), in arbitrary units.

    Returns:
        The facts of the run as plain values, with `measures`, the names of the metrics, and `rows`
        of quality, speed and training.

    Raises:
        InputError: the model, the data or the configuration can't be used.
    """
    device = next(denoiser.parameters()).device.type
    here = {"machine": machine(), "device": device, "torch": torch.__version__}
    of = {"task": task_of(denoiser), "model": artifact.fingerprint(model)}
    jobs = list(speed_jobs(denoiser, plan, {**of, **here}))
    if training:
        row: Row = {"machine": here["machine"], "torch": here["torch"], "kind": TRAINING}
        row |= {"training": shlex.join(training), "timed_steps": training_steps}
        for count in plan.threads:
            run = partial(_trained, training, training_steps, count)
            jobs.append(({**row, "threads": count}, run))
    if data is not None and of["task"] == "denoise":
        for _, method in _methods(denoiser, model, plan):
            require_process(denoiser, method.settings)
    begin()
    parts = 1 if data is None else 2
    advance = part_of(progress, 0, parts) or (lambda *_: None)
    rows = measured(jobs, folder / ROWS, lambda done, total, _: advance(done, total))
    facts = {"name": model, **of, **here, "plan": plan.described}
    if data is None:
        return {**facts, "measures": [], "rows": rows}
    scores = folder / "scores"
    scores.mkdir(exist_ok=True)
    digest = data_description(data.pairs)["sha256"][:16]
    described = {"data": digest, "count": len(data.pairs), "metrics": ",".join(data.metrics)}
    scored = quality(
        denoiser, model, plan, data, scores, of=of | described, progress=part_of(progress, 1, parts)
    )
    facts |= {"data": digest, "files": [pair.name for pair in data.pairs]}
    return {**facts, "measures": list(data.metrics), "rows": rows + scored}


def points(
    schedule: Schedule, budgets: Sequence[int], which: Sequence[Sampler] = SAMPLERS
) -> Iterator[tuple[Row, Sampler, int]]:
    """What is measured: the description of a row, the sampler, and its most steps in a budget.

    Args:
        schedule: the process.
        budgets: most network calls.
        which: samplers; where several of this package do the same, there is one row, `EVERY`.
    """
    same = 0
    if len(which) > 1 and set(which) <= set(SAMPLERS):
        # Where the start is certain, all that comes after the first call is drawn by every sampler.
        same = 2 if schedule(torch.tensor(schedule.t_start))[2] == 0 else 1
    for steps in (n for n in range(1, same + 1) if n in budgets):
        yield {"sampler": EVERY, "budget": steps, "calls": steps}, which[0], steps
    for budget in budgets:
        for sampler in which:
            calls = {n: _calls(sampler, n, schedule) for n in range(1, budget + 1)}
            steps = max((n for n, count in calls.items() if count <= budget), default=0)
            if steps > same:
                row = {"sampler": sampler.__name__, "budget": budget, "calls": calls[steps]}
                yield row, sampler, steps


def _calls(sampler: Sampler, steps: int, schedule: Schedule) -> int:
    calls = samplers.network_calls(sampler, steps, schedule)
    if calls is None:
        raise InputError(
            f"sampler {sampler.__name__} does not state its calls of the network: "
            "declare it with @samplers.sampler(stages=...)"
        )
    return calls


def task_of(denoiser: NetworkDenoiser) -> str:
    """The task of a model: denoise, vocode or generate.

    Raises:
        InputError: it has none of these.
    """
    if denoiser.kind == "vocoder" and isinstance(denoiser.codec, Magnitudes):
        return "vocode"
    if denoiser.kind == "generator" and not denoiser.schedule.paired:
        return "generate"
    if denoiser.kind == "vocoder" or isinstance(denoiser.backbone, DiffWave):
        raise InputError("this model is no denoiser, vocoder or generator: it can't be benchmarked")
    return "denoise"


def workload(denoiser: NetworkDenoiser, plan: Plan) -> tuple[Callable[..., Array], float]:
    """What is timed, a function of sampler, steps and piece, and its seconds of signal.

    Denoisers and vocoders take white noise of the model's rate and level; generators draw one
    signal.

    Raises:
        InputError: the plan doesn't fit the model.
    """
    task, rate = task_of(denoiser), denoiser.sample_rate or RATE
    if task != "denoise" and any(piece is not None for piece in plan.pieces):
        raise InputError(f"piece is for denoisers, this model is for the task {task}: leave it")
    if task == "generate":
        own = require_generator(denoiser)
        length = own if plan.seconds is None else max(1, round(plan.seconds * rate))
        values = [{one.name: one.values("all")[0] for one in denoiser.conditions}]
        draw = partial(generate, denoiser, requested=values, length=length, guidance=plan.guidance)
        return draw, length / rate
    x = made_noise(denoiser, plan.seconds)
    seconds = x.shape[-1] / rate
    if task == "vocode":
        frames = require_vocoder(denoiser)[0](torch.from_numpy(x))[0]
        return partial(vocode, denoiser, frames), seconds
    noise_std = plan.noise_std
    if noise_std is None and not denoiser.schedule.paired and denoiser.noise_std is None:
        noise_std = float(x.std())
    return partial(denoise, denoiser, x, noise_std=noise_std), seconds


def made_noise(denoiser: NetworkDenoiser, seconds: float | None) -> Array:
    """White noise (1, L) of the model's rate and level, always the same."""
    count = PIECE if seconds is None else round(seconds * (denoiser.sample_rate or RATE))
    level = -20.0 if denoiser.level_db is None else min(denoiser.level_db, 0.0)
    x = np.random.default_rng(0).standard_normal((1, max(count, 1)))
    return (10 ** (level / 20) * x).astype(np.float32)


def speed_jobs(denoiser: NetworkDenoiser, plan: Plan, of: Row) -> Iterator[Job]:
    """One job for each point, piece and number of threads.

    Args:
        denoiser: the model.
        plan: what is measured.
        of: what all rows hold, such as the model and the machine.
    """
    work, seconds = workload(denoiser, plan)
    of = {**of, "kind": SPEED, "seconds": seconds, "repeats": plan.repeats}
    if task_of(denoiser) == "generate":
        of |= {"guidance": plan.guidance}
    for count in plan.threads:
        for piece in plan.pieces:
            for row, sampler, steps in points(denoiser.schedule, plan.calls, plan.samplers):
                run = partial(work, sampler=sampler, steps=steps)
                run = run if piece is None else partial(run, piece=piece)
                row = {**of, **row, "steps": steps, "piece": piece, "threads": count}
                yield row, partial(_timed, run, seconds, count, plan.repeats)


def _timed(run: Callable[[], object], seconds: float, count: int, repeats: int) -> Row:
    with threads(count):
        taken = quickest(run, repeats=repeats)
    return {
        "taken": taken.seconds,
        "processor_seconds": taken.processor_seconds,
        "real_time_factor": taken.seconds / seconds,
    }


def _trained(overrides: Sequence[str], steps: int, count: int) -> Row:
    from signal_diffusion.training.speed import training_speed

    return training_speed(list(overrides), steps=steps, thread_count=count)


def data_of(
    denoiser: NetworkDenoiser, folder: Path, *, files: int, metrics: Sequence[str] | None
) -> Data:
    """The beginnings of recordings of a folder, evenly chosen, and metrics that suit the model.

    Args:
        denoiser: a denoiser, whose folder has clean/ and noisy/, of sound or of tables, or a
            vocoder, whose folder has recordings.
        folder: the data.
        files: the most that are taken.
        metrics: names of `METRICS`; None chooses.

    Raises:
        InputError: a name is unknown, or the folder holds no such recordings.
    """
    task, rate = task_of(denoiser), denoiser.sample_rate or RATE
    if task == "generate":
        raise InputError(
            "this model draws signals, which have no truth to compare with: leave the data "
            "(`signal-diffusion memorisation` compares them with what it was trained on)"
        )
    speech = denoiser.domain == "speech" and denoiser.sample_rate == RATE
    pesq = ["pesq"] if speech and importlib.util.find_spec("pesq") is not None else []
    vocoder = task == "vocode"
    pairs = Sources(data=folder, alone=rate if vocoder else None).pairs()
    readings = not vocoder and takes_readings(denoiser, denoiser.domain or "this", pairs)
    usual = [*pesq, "lsd"] if vocoder else [] if readings else ["si_sdr", *pesq]
    domain = None if vocoder else denoiser.domain
    names = metrics_named(metrics or usual, domain=domain, readings=readings)
    count = min(files, len(pairs))
    evenly = [pairs[index * len(pairs) // count] for index in range(count)]
    return Data([replace(pair, sample_rate=rate, beginning=LONGEST) for pair in evenly], names)


def _methods(denoiser: NetworkDenoiser, model: str, plan: Plan) -> list[tuple[Row, Modelled]]:
    """What is scored, each once: the description of its row, and the model at its setting."""
    device = next(denoiser.parameters()).device.type
    found = []
    for row, sampler, steps in points(denoiser.schedule, plan.calls, plan.samplers):
        settings = Settings(steps=steps, sampler=sampler, noise_std=plan.noise_std)
        label = f"{sampler.__name__}, {steps} steps"
        found.append(({**row, "steps": steps}, Modelled(model, settings, device, label=label)))
    return found


def quality(
    denoiser: NetworkDenoiser,
    model: str,
    plan: Plan,
    data: Data,
    folder: Path,
    *,
    of: Row,
    progress: Progress | None = None,
) -> list[Row]:
    """A row of mean scores for each point, and one for the input of a denoiser.

    A mean is None where a recording has no score.

    Raises:
        InputError: a recording can't be denoised or scored.
    """
    described = _methods(denoiser, model, plan)
    # Two budgets may come to one setting.
    methods: list[Method] = list({method.name: method for _, method in described}.values())
    rows_of = [(row, method.name) for row, method in described]
    if task_of(denoiser) == "denoise":
        methods.insert(0, Untouched(INPUT))
        rows_of.insert(0, ({"sampler": INPUT, "calls": 0}, INPUT))
    jobs = max(plan.threads) if next(denoiser.parameters()).device.type == "cpu" else 1
    rows = evaluate(data.pairs, methods, data.metrics, folder, jobs=jobs, progress=progress)
    for row in rows:
        if row["error"] is not None:
            raise InputError(f"{row['file']}: {row['error']}")
    means: dict[str, Row] = {}
    for name, subset in by_column(rows, "method").items():
        columns = {metric: [row[metric] for row in subset] for metric in data.metrics}
        means[name] = {m: None if None in x else float(np.mean(x)) for m, x in columns.items()}
    of = {**of, "kind": QUALITY, "noise_std": plan.noise_std}
    return [{**of, **row, **means[name]} for row, name in rows_of]
