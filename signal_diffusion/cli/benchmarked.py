"""What `signal-diffusion benchmark` measures, row by row, and the report of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from signal_diffusion import artifact
from signal_diffusion.cli.benchmark_data import Scoring, scoring_of
from signal_diffusion.cli.train import configuration_mistakes
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.plots import require_matplotlib
from signal_diffusion.results import machine
from signal_diffusion.tasks.benchmark_files import write_benchmark
from signal_diffusion.tasks.benchmarking import (
    TRAINING,
    Plan,
    quality_jobs,
    speed_jobs,
    task_of,
    told_plan,
)
from signal_diffusion.tasks.kept_rows import Job, Row, measured

#: What stands for the experiment by which a model was trained.
OWN = "own"


@dataclass(frozen=True)
class Report:
    """What was measured, with the names of the scores, and what it was measured of."""

    rows: Sequence[Row]
    measures: Sequence[str]
    told: Mapping[str, Any]
    notes: Sequence[str]

    def write(self, folder: Path, command: str) -> str:
        """Write it into a folder, with a picture where that can be drawn; returns the table."""
        return write_benchmark(
            folder, self.rows, self.measures, command=command, told=self.told, picture=drawable()
        )


def benchmark_model(
    denoiser: NetworkDenoiser,
    model: str,
    plan: Plan,
    *,
    data: Path | None,
    files: int,
    metrics: Sequence[str] | None,
    training: str | None,
    training_steps: int,
    begin: Callable[[], Path],
    tell: Callable[[int, int], None],
) -> Report:
    """Measure what a plan asks for.

    Args:
        denoiser: the model.
        model: its name or file.
        plan: calls, samplers, pieces and threads.
        data: folder of recordings to score on, see `scoring_of`, or None for time alone.
        files, metrics: see `scoring_of`.
        training: overrides of a run whose steps are timed, see `overrides_of`, or None.
        training_steps: that are timed.
        begin: gives the file of rows, once all else is known to be right.
        tell: called as tell(done rows, all rows).

    Raises:
        InputError: the model, the data or the configuration can't be used.
    """
    if data is None and metrics is not None:
        raise InputError("metrics are for data with the truth: name a folder, or leave them")
    scoring = scoring_of(denoiser, data, files=files, metrics=metrics) if data else None
    device = next(denoiser.parameters()).device.type
    here = {"machine": machine(), "device": device, "torch": torch.__version__}
    of = {"task": task_of(denoiser), "model": artifact.fingerprint(model)}
    jobs = list(speed_jobs(denoiser, plan, {**of, **here}))
    if scoring is not None:
        jobs += quality_jobs(denoiser, plan, scoring, {**of, **_told(scoring, plan)})
    if training is not None:
        words = overrides_of(training, denoiser)
        jobs += _training_jobs(words, plan, training_steps, here)
    rows = measured(jobs, begin(), lambda done, total, _: tell(done, total))
    told = {"name": model, **of, **here, "plan": told_plan(plan)}
    measures = () if scoring is None else tuple(scoring.measures)
    if scoring is not None:
        told |= {"data": scoring.digest, "files": [one.name for one in scoring.examples]}
    return Report(rows, measures, told, _notes(denoiser, training))


def overrides_of(given: str, denoiser: NetworkDenoiser) -> list[str]:
    """The overrides of a run, in which `own` stands for the model's own experiment.

    Raises:
        InputError: the model's card names none, or the words are no overrides.
    """
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise InputError(f"train is '{given}', which lacks a quote: {error}") from error
    experiment = own_experiment(denoiser)
    if OWN in words and experiment is None:
        raise InputError("train is 'own', but the model's card names none: give experiment=NAME")
    return [f"experiment={experiment}" if word == OWN else word for word in words]


def own_experiment(denoiser: NetworkDenoiser) -> str | None:
    """The experiment that the model's card names, if it does."""
    found = re.search(r"experiment=(\w+)", str(denoiser.card.get("command", "")))
    return None if found is None else found[1]


def drawable() -> bool:
    """Whether a picture can be drawn here."""
    with suppress(InputError):
        require_matplotlib()
        return True
    return False


def _told(scoring: Scoring, plan: Plan) -> Row:
    """What tells scores from others."""
    return {
        "data": scoring.digest, "count": len(scoring.examples),
        "metrics": ",".join(scoring.measures), "noise_std": plan.noise_std,
    }  # fmt: skip


def _training_jobs(words: Sequence[str], plan: Plan, steps: int, here: Row) -> Iterator[Job]:
    """One job for each number of threads."""
    for count in plan.threads:
        asked = {
            "machine": here["machine"], "torch": here["torch"], "kind": TRAINING,
            "training": shlex.join(words), "threads": count, "timed_steps": steps,
        }  # fmt: skip
        yield asked, partial(_trained, words, steps, count)


def _trained(words: Sequence[str], steps: int, count: int) -> Row:
    with configuration_mistakes():
        from signal_diffusion.training_speed import training_speed

        return training_speed(words, steps=steps, thread_count=count)


def _notes(denoiser: NetworkDenoiser, training: str | None) -> list[str]:
    """What was left out, and how to have it."""
    found = []
    experiment = own_experiment(denoiser)
    if training is None and experiment is not None:
        words = f"--train 'own data.sources.root=DATA' (experiment={experiment})"
        found.append(f"note: training was not timed; {words} does")
    if not drawable():
        found.append("note: no picture without matplotlib: pip install 'signal-diffusion[plot]'")
    return found
